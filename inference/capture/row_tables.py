"""Tables of which a step reads and changes only the rows of its batch: eager, replayed and compiled steps alike.

    r = T[index]   a leaf, shape (B, ...)      T[index] <- the optimiser's update of r, by the moments of its own rows

Each row has moments and a count of updates of its own, so that it sees the very optimiser of its own gradients,
however seldom a batch holds it. The optimiser keeps them in its state of T. A step costs the same for any N.
"""

from typing import Any, NamedTuple

import torch
from pyro.optim.clipped_adam import ClippedAdam

from .rules import RULES, row_step

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
            torch.index_select(whole, 0, index, out=leaf.detach())
            leaf.grad = None


def update_rows(optimiser: torch.optim.Optimizer, rows: TableRows) -> None:
    """One update of these rows by the gradients of their leaves, after the optimiser's step of all other parameters."""
    for whole, leaf in zip(rows.wholes, rows.leaves, strict=True):
        if leaf.grad is None:
            continue
        group = _group(optimiser, whole)
        table, rate = table_state(optimiser, whole), torch.tensor(group["lr"], dtype=torch.float64, device=whole.device)
        new = row_step(type(optimiser).__name__, table, rows.at, leaf.grad, rate, group)
        with torch.no_grad():
            for old, value in zip(table, new, strict=True):
                old[rows.at] = value


def table_state(optimiser: torch.optim.Optimizer, whole: torch.Tensor) -> list[torch.Tensor]:
    """[the table, its moments, the two counts of each row, the averages of its rows], made at first."""
    state = optimiser.state[whole]
    moments = _moments(optimiser)
    if "step" not in state:
        state.update({name: torch.zeros_like(whole) for name in moments})
        state.update({name: torch.zeros(len(whole), device=whole.device, dtype=torch.float32) for name in COUNTS})
        state[AVERAGE] = whole.detach().clone()
    return [whole.detach(), *(state[name] for name in (*moments, *COUNTS, AVERAGE))]


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
