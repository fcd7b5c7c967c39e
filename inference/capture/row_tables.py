"""Tables of which a step reads and changes only the rows of its batch: eager, replayed and compiled steps alike.

    r = T[index]   a leaf, shape (B, ...)      T[index] <- the optimiser's update of r, by the moments of its own rows

Each row has moments and a count of updates of its own, so that it sees the very optimiser of its own gradients,
however seldom a batch holds it. The optimiser keeps them in its state of T. A step costs the same for any N.
"""

from typing import Any, NamedTuple

import torch
from pyro.optim.clipped_adam import ClippedAdam

from .rules import RULES, row_parts, row_step

KNOWN = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, ClippedAdam)  # the classes of RULES, not subclasses
COUNTS = ("step", "visits")  # of each row: updates in all, and since its average began
AVERAGE = "average"  # of the last iterates of each row


class TableRows(NamedTuple):
    """The tables of a step, their rows of its batch, and which rows these are."""

    wholes: list[torch.Tensor]  # (N, ...), without a gradient
    leaves: list[torch.Tensor]  # (B, ...), which the step reads
    at: torch.Tensor  # (B,), on the device of the tables


def gather_rows(wholes: list[torch.Tensor], leaves: list[torch.Tensor], index: torch.Tensor) -> None:
    """Reads the rows of this index into the leaves, which forget their gradients."""
    with torch.no_grad():
        for whole, leaf in zip(wholes, leaves, strict=True):
            leaf.copy_(whole[index])
            leaf.grad = None


def update_rows(optimiser: torch.optim.Optimizer, rows: TableRows) -> None:
    """One update of these rows by the gradients of their leaves, after the optimiser's step of all other parameters."""
    for whole, leaf in zip(rows.wholes, rows.leaves, strict=True):
        if leaf.grad is None:
            continue
        group = _group(optimiser, whole)
        table, rate = table_state(optimiser, whole), torch.tensor(group["lr"], dtype=torch.float64, device=whole.device)
        with torch.no_grad():
            table[rows.at] = row_step(type(optimiser).__name__, table[rows.at], leaf.grad, rate, group)


def table_state(optimiser: torch.optim.Optimizer, whole: torch.Tensor) -> torch.Tensor:
    """A table with all that the optimiser keeps of its rows, shape (N, numbers of a row), see `row_parts` of rules.py.

    What belongs to a row lies side by side, so that a step that visits it waits for memory once: from here on the table
    and what the optimiser's state has of it are views of this tensor. The table stays the same object.
    """
    state, moments = optimiser.state[whole], _moments(optimiser)
    if "step" not in state:
        zero = whole.new_zeros((), requires_grad=False)  # takes no memory until all are put together
        state.update({name: zero.expand_as(whole) for name in moments})
        state.update({name: zero.expand(len(whole)) for name in COUNTS})
        state[AVERAGE] = whole.detach()
    names = (*moments, *COUNTS, AVERAGE)
    before, storage = [whole.detach(), *(state[name] for name in names)], whole.untyped_storage()
    size = len(whole), sum(t[0].numel() for t in before)
    if all(t.untyped_storage().data_ptr() == storage.data_ptr() for t in before):
        return before[0].new_empty(0).set_(storage, 0, size, (size[1], 1))
    together = torch.cat([t.reshape(len(t), -1).to(whole.dtype) for t in before], 1)
    whole.data, *parts = row_parts(together, whole.shape[1:])
    state.update(zip(names, parts, strict=True))
    return together


def why_no_rows(optimiser: torch.optim.Optimizer) -> str:
    """Why the optimiser has no update of some rows of a parameter; empty if it has one."""
    name, group = type(optimiser).__name__, optimiser.param_groups[0]
    if type(optimiser) not in KNOWN:
        return f"{name} has no update of some rows of a parameter; {', '.join(RULES)} have"
    if on := [option for option in ("amsgrad", "maximize") if group.get(option)]:
        return f"{name} with {on[0]} has no update of some rows of a parameter; leave {on[0]} out"
    if group.get("momentum") and group["dampening"]:
        return f"{name} with dampening has no update of some rows of a parameter; leave dampening out"
    return ""


def _moments(optimiser: torch.optim.Optimizer) -> tuple[str, ...]:
    """The names of the moments, as in the optimiser's state of other parameters."""
    if type(optimiser) is torch.optim.SGD:
        return ("momentum_buffer",) if optimiser.param_groups[0]["momentum"] else ()
    return "exp_avg", "exp_avg_sq"


def _group(optimiser: torch.optim.Optimizer, whole: torch.Tensor) -> dict[str, Any]:
    """The settings of this table."""
    return next(group for group in optimiser.param_groups if any(p is whole for p in group["params"]))
