"""What a step reads: the tensors that enter its graph, its rows, and its loss as a function of them.

The functions work on the steps of a run, `Steps` of `steps.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from ..capture.captures import Captures
from ..capture.outside import current_values
from ..capture.replay import LossFunction, StepInputs
from ..capture.row_tables import TableRows
from ..capture.signature import Signature, signature_of, surroundings
from ..objective.elbo import objective
from ..pair.batches import batch
from ..pair.pair import Pair
from ..planning.plan import Plan
from ..runtime.parameters import unconstrained
from ..runtime.products import products


def inputs_of(steps: Any, pair: Pair, index: torch.Tensor | None, warmup: int) -> StepInputs:
    """The tensors that the next step reads. index: of its batch. warmup: as for `Steps.take_steps`."""
    rows = table_rows(steps, index)
    leaves = [*unconstrained().values(), *(() if rows is None else rows.leaves)]
    return StepInputs(
        leaves=leaves,
        baselines=steps.baselines,
        per_step=[t[0] for t in per_step(steps, index, warmup, 1, leaves[0].device)],
        data=list({id(v): v for v in tree_leaves(pair.data) if isinstance(v, torch.Tensor)}.values()),
        buffers=[b for module in steps.state.modules for b in module.buffers(recurse=False)],
        rows=rows,
    )


def objective_of(steps: Any, pair: Pair, plan: Plan, inputs: StepInputs) -> LossFunction:
    """The loss of a step, as a function that reads the tensors in `inputs`."""

    def value(baselines: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        changing = list(inputs.per_step)
        part = pair if steps.batches is None else part_of(steps, pair, changing.pop(0), inputs.rows is not None)
        weight = changing.pop() if changing else None
        with products(steps.precision):
            return objective(plan.recipe, part, steps.particles_now, steps.vectorised, weight, baselines)

    return value


def signature_now(steps: Any, captures: Captures, pair: Pair, plan: Plan, inputs: StepInputs) -> Signature:
    """What two steps must have in common to share a recording."""
    size = None if steps.batches is None else steps.batches.rows.size
    program = (steps.particles_now, steps.vectorised, size, pair.factor, surroundings())
    outside = current_values(captures.outside)
    return signature_of(plan.choices, program, outside, inputs, pair.data, list(steps.state.modules))


def per_step(
    steps: Any, index: torch.Tensor | None, warmup: int, count: int, device: torch.device
) -> list[torch.Tensor]:
    """The inputs that change with every step, stacked over `count` steps: rows of the batch, `kl_weight`."""
    rows = [] if index is None or steps.batches is None else [steps.batches.stacked(index, count)]
    warm = [torch.tensor([steps.kl_weight(warmup, k) for k in range(count)])] if warmup else []
    return [t.to(device) for t in (*rows, *warm)]


def part_of(steps: Any, pair: Pair, index: torch.Tensor | None, leaves: bool = False) -> Pair:
    """The pair on a batch. leaves: whether it reads its rows of tables from the leaves, which hold them."""
    if index is None or steps.batches is None:
        return pair
    read = steps.tables.leaves if leaves and steps.tables else None
    return batch(pair, steps.batches.rows, index, read, steps.batches.factor)


def table_rows(steps: Any, index: torch.Tensor | None) -> TableRows | None:
    """The rows of the tables for this batch, read into their leaves; None if there are no tables."""
    found: TableRows | None = None if steps.tables is None or index is None else steps.tables.rows(index)
    return found


@contextmanager
def on_batch(steps: Any, pair: Pair) -> Iterator[Pair]:
    """Inside, the pair on the next batch, of whose tables the store has these rows as parameters of their own."""
    if steps.tables is None or steps.batches is None:
        yield steps.batch(pair)
        return
    steps.kept, index = [], next(steps.batches)
    with steps.tables.in_store(index, steps.state.modules):
        yield batch(pair, steps.batches.rows._replace(tables=frozenset()), index)
