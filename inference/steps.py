"""The steps of a run: batch, gradient, update; one by one, or many in a call.

However a step is taken, eager, replayed or compiled, it draws the same random numbers and gives the same loss.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.utils import parameters_to_vector
from torch.utils._pytree import tree_leaves

from .compiled import Compiled, kind_of
from .costs import Pair
from .elbo import objective
from .machine import Machine, many_steps
from .minibatch import Rows, Shuffled, batch
from .plan import Plan
from .reach import values
from .replay import Live, Replay, one_step
from .scope import unconstrained

EAGER, LONG = 20, 200  # eager steps before a capture; of a run that is long enough for one after its first step


class Block(NamedTuple):
    """Some steps: the loss of each in nats, before its update, and the sum of the iterates after each, flat, (P,)."""

    losses: list[float]
    total: torch.Tensor


class Taken(NamedTuple):
    """What a step is taken with: the pair on all data, the plan, and what the run brings along."""

    pair: Pair
    plan: Plan
    particles: int
    vectorised: bool
    rows: Rows | None
    batches: Shuffled | None
    averages: dict[str, torch.Tensor]
    modules: list[torch.nn.Module]
    optimiser: torch.optim.Optimizer
    eager: Callable[[Pair, float], float]  # one update on a batch, its KL weighted by a warmth; the loss


def take(compiled: Compiled | None, on: Taken, *, most: int, patience: int, done: int, warmup: int) -> Block:
    """At least one step and at most so many. compiled: None if all are to be eager. done: steps before these."""
    index = None if on.batches is None else next(on.batches)

    def warmth(k: int) -> float:
        return min(1.0, (done + k + 1) / (warmup + 1))

    each = [*([] if index is None else [index]), *([torch.tensor(warmth(0))] if warmup else [])]
    if compiled is not None and (found := _found(compiled, on, each, patience)) is not None:
        replay, live = found
        if isinstance(replay.machine, Machine):
            left = most if on.batches is None else 1 + on.batches.left
            count = min(most, left, replay.machine.at_once, _until_probe(replay))
            rows = [] if on.batches is None else [torch.stack([index, *(next(on.batches) for _ in range(count - 1))])]
            warm = [torch.tensor([warmth(k) for k in range(count)])] if warmup else []
            block = many_steps(replay, live._replace(each=[*rows, *warm]), on.optimiser, count)
            if block is not None:
                return Block(*block)
        try:
            return Block([one_step(replay, live, on.optimiser)], _iterate())
        except (RuntimeError, IndexError) as error:  # a shape that it has only now, say
            compiled.stop(f"its recorded form fails ({str(error).splitlines()[0][:160]}){compiled.where}")
    part = on.pair if index is None or on.rows is None else batch(on.pair, on.rows, index)
    return Block([on.eager(part, warmth(0))], _iterate())


def _found(compiled: Compiled, on: Taken, each: list[torch.Tensor], patience: int) -> tuple[Replay, Live] | None:
    """The graph for this step and what it reads."""
    pair, rows = on.pair, on.rows

    def value(averages: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        now = list(each)
        part = pair if rows is None else batch(pair, rows, now.pop(0))
        return objective(on.plan, part, on.particles, on.vectorised, now.pop() if now else None, averages)

    live = Live(
        leaves=list(unconstrained().values()),
        averages=on.averages,
        each=each,
        data=list({id(v): v for v in tree_leaves(pair.data) if isinstance(v, torch.Tensor)}.values()),
        buffers=[b for module in on.modules for b in module.buffers(recurse=False)],
    )
    choices = tuple((e.site, e.estimator, e.term) for e in on.plan.entries)
    program = (on.particles, on.vectorised, None if rows is None else rows.size, values(compiled.outside))
    kind = kind_of((*choices, on.plan.antithetic), program, live, pair.data, on.modules)
    replay = compiled.find(kind, live, value, on.optimiser, patience)
    return None if replay is None else (replay, live)


def _until_probe(replay: Replay) -> int:
    """Steps until the next power of two."""
    return (1 << replay.taken.bit_length()) - replay.taken


def _iterate() -> torch.Tensor:
    return parameters_to_vector(p.detach() for p in unconstrained().values())
