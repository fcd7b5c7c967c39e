"""What looks like a mistake in a pair that runs: warnings, found in two runs of each program at the same draws."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine

from .deltas import wrong_density
from .guide_support import fixed_beside_the_prior
from .outer import outer_factors
from .parameters import ParameterCall, one_for_two_sites, one_name_twice, tied_sites, untrained
from .plate_rows import fixed_part
from .repeats import run_again, unsteady
from .twice import observed_twice


class Ran(NamedTuple):
    """One run of a pair: its traces and the parameters that each program asked for."""

    model: poutine.Trace
    guide: poutine.Trace
    of_model: list[ParameterCall]
    of_guide: list[ParameterCall]


def suspicious(
    model: Callable[..., Any], guide: Callable[..., Any], ran: Ran, data: tuple, names: list[str]
) -> tuple[list[str], str | None]:
    """(warnings, what is wrong if all steps get this data). ran: its model is scored already. The pair runs again."""
    ran.guide.compute_log_prob()
    model_again, guide_again = _again(model, ran.model, data), _again(guide, ran.guide, data)
    warnings = [
        *one_name_twice(ran.of_model, ran.of_guide),
        *(tied_sites(ran.guide) or one_for_two_sites(ran.guide, ran.of_guide)),
        *untrained(ran.model, ran.guide, (model, guide), data),
        *unsteady("model", model, ran.model, model_again, data),
        *unsteady("guide", guide, ran.guide, guide_again, data),
        *observed_twice(ran.model),
        *fixed_beside_the_prior(ran.model, ran.guide),
        *outer_factors(model, ran.model, data, names),
        *wrong_density(guide, ran.guide, data),  # the last, since it moves parameters, which graphs do not survive
    ]
    return warnings, None if model_again is None else fixed_part(ran.model, model_again, data, names)


def _again(program: Callable[..., Any], trace: poutine.Trace, data: tuple) -> poutine.Trace | None:
    """`run_again`, without a graph where the program runs so: the graph of all rows fills the memory a second time."""
    with torch.no_grad():
        again = run_again(program, trace, data)
    return run_again(program, trace, data) if again is None else again
