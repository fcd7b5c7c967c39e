"""Where a run computes if the user names no device: on the accelerator only if a step has enough arithmetic for it.

    arithmetic of a step >= 2 microseconds * its operators          (both counted, see `work.py`)

An accelerator does the arithmetic in next to no time, but each operator costs it one to two microseconds (a kernel of a
CUDA graph); the CPU's compiled step pays for the arithmetic alone. Both were measured for the pairs of this repository.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ..objective.elbo import log_weight
from ..pair.batches import batch
from ..pair.pair import Pair
from ..pair.work import work
from ..preflight.rows import find_rows
from ..runtime.generators import noise
from ..runtime.probes import at_a_draw

KERNEL = 2.0  # microseconds of an operator on an accelerator, with a margin


class Place(NamedTuple):
    """A device, and a line for the plan that says why."""

    device: torch.device
    why: str


def device_of(things: Any) -> torch.device | None:
    """The accelerator on which the user has put data or a network; None if all are on the CPU."""
    return next((t.device for t in _tensors(things) if t.device.type not in ("cpu", "meta")), None)


def best_place(pair: Pair, names: list[str], batch_size: int | None, accelerator: torch.device) -> Place:
    """The CPU or the accelerator for a pair on all data, of which a step takes `batch_size` rows.

    names: of the arguments. The run has been entered on the CPU. Raises ValueError as `find_rows`.
    """
    rows = None if batch_size is None else find_rows(pair, batch_size, names)
    if rows is not None and rows.size < rows.n:
        pair = batch(pair, rows, torch.arange(rows.size))
    with noise(0), torch.no_grad():
        counted = at_a_draw(lambda _: work(lambda: log_weight(pair)))
    pays = counted.arithmetic >= KERNEL * counted.operators
    device = accelerator if pays else torch.device("cpu")
    share = f"{counted.arithmetic:,.0f} microseconds of arithmetic in {counted.operators:,} operators"
    enough = "enough" if pays else "too little"
    return Place(device, f"{device}: one draw has {share}, {enough} for {accelerator}; device= overrides this")


def _tensors(things: Any) -> Iterator[torch.Tensor]:
    for thing in tree_leaves(things):
        if isinstance(thing, torch.Tensor):
            yield thing
        elif isinstance(thing, nn.Module):
            yield from (*thing.parameters(), *thing.buffers())
