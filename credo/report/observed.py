"""Which arguments of a model are observations, by what happens to the model when their rows change places."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine

from credo.inference.inputs.arguments import arguments
from credo.inference.inputs.call import positional_parameters
from credo.inference.runtime.defaults import CPU
from credo.inference.runtime.sites import is_factor, latent, observed
from credo.inference.runtime.state import entered, new_state

ROUNDING = 1e-5  # of a density, that a sum over rows in another order makes


class Observed(NamedTuple):
    """The positions of the arguments that a model observes, and whether one of them alone is its only observation."""

    arguments: frozenset[int]
    alone: bool = False  # the value of the only observed site is that argument as it is


def observed_arguments(model: Callable[..., Any], data: tuple[Any, ...]) -> Observed:
    """The arguments that move what a model observes, and no distribution. Nothing is trained for this.

    Of a model that cannot be run on its data before it is trained, those with the default None.
    """
    try:
        values = arguments(model, data, torch.get_default_dtype(), CPU, gaps=None).values
        state = new_state((model, values), 0, CPU)

        def trace(given: tuple[Any, ...]) -> poutine.Trace:
            with entered(state, seed=0), torch.no_grad():
                return poutine.trace(model).get_trace(*given)

        before = trace(values)
        seen = [site["value"] for site in observed(before).values() if not is_factor(site)]

        def is_observed(i: int, value: Any) -> bool:
            if not isinstance(value, torch.Tensor) or not value.dim():
                return False
            try:
                after = trace((*values[:i], _other_rows(value), *values[i + 1 :]))
            except Exception:  # of the user's program: an index out of range
                return False
            return _moves_observations_only(before, after)

        found = {i for i, value in enumerate(values) if is_observed(i, value)}
    except Exception:  # of the user's program; the fit will say what is wrong
        defaults = enumerate(positional_parameters(model))
        return Observed(frozenset(i for i, p in defaults if p.default is None and i < len(data)))
    alone = len(found) == len(seen) == 1 and _equal(values[next(iter(found))], seen[0])
    return Observed(frozenset(found), alone)


def _other_rows(value: torch.Tensor) -> torch.Tensor:
    """The rows one place further down; a constant is another constant."""
    moved = value.roll(1, 0)
    return moved if not torch.equal(moved, value) else value.logical_not() if value.dtype == torch.bool else value + 1


def _moves_observations_only(before: poutine.Trace, after: poutine.Trace) -> bool:
    """Whether observed values are other ones, while all distributions stay as they were."""
    moved = False
    for name, site in (latent(before) | observed(before)).items():
        if name not in after.nodes:
            return False
        here = after.nodes[name]
        fns: tuple[Any, ...] = (site["fn"], here["fn"])
        one, two = (fn.log_prob(site["value"]) for fn in fns)
        if one.shape != two.shape or not torch.allclose(one, two, rtol=ROUNDING, atol=ROUNDING, equal_nan=True):
            return False
        moved = moved or (site["is_observed"] and not is_factor(site) and not _equal(site["value"], here["value"]))
    return moved


def _equal(one: Any, two: Any) -> bool:
    return isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor) and torch.equal(one, two)
