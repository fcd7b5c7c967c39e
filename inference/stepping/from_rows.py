"""Parameters that a pair computes from its rows when it creates them: a mean of x, or how many rows there are.

Where the first look saw some rows of many, they are computed again from all that are at hand. Two runs of the pair on
some rows and on half of them show which these are.
"""

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from pyro import poutine

from ..pair.autoguide import start_elsewhere
from ..pair.batches import cut, rows_of
from ..pair.mean_field import MeanField
from ..pair.pair import Program
from ..runtime.retries import at_other_draws
from ..runtime.state import State, entered, new_state
from .window_batches import entry_of_each_row

Values = dict[str, torch.Tensor]


def compute_from_all(
    state: State, model: Program, guide: Program, some: tuple[Any, ...], every: tuple[Any, ...], seed: int, n: int
) -> None:
    """Gives the parameters of a state that were computed from some rows their values on all rows at hand.

    some, every: the data on some rows, and at hand, which may be a window of all. n: how many rows there are in all.
    Raises ValueError for a constant that counts the rows of a window, and for a parameter with an entry for each row.
    """
    positions, here = rows_of(some)
    half = max(1, here // 2)
    first = _created(state, model, guide, some, seed)
    of_half = _created(state, model, guide, cut(some, positions, slice(0, half)), seed)
    found = [name for name, value in first.items() if name in of_half and not _same(value, of_half[name])]
    if not found:
        return
    at_hand = len(every[positions[0]])
    values = _created(state, model, guide, every, seed)
    for name in found:
        kept = state.store["params"][name]
        if kept.shape != values[name].shape or (at_hand < n and first[name].shape != of_half[name].shape):
            raise ValueError(entry_of_each_row(name))
        if at_hand < n and not kept.requires_grad and _same(first[name] * half, of_half[name] * here):
            raise ValueError(
                f"parameter {name!r} is a constant in proportion to the number of rows that the run sees first, and "
                f"these are {at_hand:,} of {n:,} rows, which do not fit into memory; give the number as an argument, "
                f"functools.partial(model, rows={n}), or leave it out"
            )
        with torch.no_grad():
            kept.copy_(values[name])


def _created(state: State, model: Program, guide: Program, data: Sequence[Any], seed: int) -> Values:
    """{name: unconstrained value} of the parameters that a new run creates on this data, but for credo's own guide."""

    left_out = ("__baseline", f"{guide._pyro_name}." if isinstance(guide, MeanField) else "__baseline")

    def create(number: int) -> Values:
        with entered(new_state((*state.modules, model, guide, data), seed, state.device)), torch.no_grad():
            start_elsewhere(guide, number)
            drawn = poutine.trace(guide).get_trace(*data)
            poutine.trace(poutine.replay(model, trace=drawn)).get_trace(*data)
            store = pyro.get_param_store().named_parameters()
            return {name: p.detach().clone() for name, p in store if not name.startswith(left_out)}

    return at_other_draws(create)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-6, atol=0, equal_nan=True)
