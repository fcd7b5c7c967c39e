"""The steps of a run: batch, gradient, update; one by one, or many in a call.

However a step is taken, eager, replayed or compiled, it draws the same random numbers and gives the same loss.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from pyro.poutine.runtime import _PYRO_STACK
from torch.nn.utils import parameters_to_vector
from torch.utils._pytree import tree_leaves

from .capture import NotCaptured
from .compiled import Compiled, kind_of
from .costs import Pair
from .elbo import differentiable_loss, objective
from .machine import Machine, many_steps
from .minibatch import Rows, Shuffled, batch
from .moments import fits
from .plan import Plan
from .reach import values
from .replay import Live, Replay, one_step
from .scope import State, unconstrained
from .update import update

T = TypeVar("T")
EAGER, LONG = 20, 200  # eager steps before a capture; of a run that is long enough for one after its first step
FEW = 8  # particles where they are made one by one, if no number was asked for


class Block(NamedTuple):
    """Some steps: the loss of each in nats, before its update, and the sum of the iterates after each, flat, (P,)."""

    losses: list[float]
    total: torch.Tensor


@dataclass
class Steps:
    """How a run takes its steps, and what it keeps between them. compiled: None if all are to be eager."""

    optimiser: torch.optim.Optimizer
    compiled: Compiled | None
    state: State
    particles: int
    asked: int | None  # the particles that the user asked for
    vectorised: bool
    rows: Rows | None
    batches: Shuffled | None
    averages: dict[str, torch.Tensor] = field(default_factory=dict)
    taken: int = 0  # with a finite loss

    @property
    def few(self) -> int:
        """Particles where they are made one by one."""
        return self.asked or min(self.particles, FEW)

    def take(self, pair: Pair, plan: Plan, most: int = 1, patience: int = EAGER, warmup: int = 0) -> Block:
        """One step or more, at most so many. pair: on all data. patience: eager steps before a capture. warmup: steps
        in which log q(z) - log p(z) gains its weight.
        """
        index = None if self.batches is None else next(self.batches)

        def warmth(k: int) -> float:
            return min(1.0, (self.taken + k + 1) / (warmup + 1))

        device = next(iter(unconstrained().values())).device
        each = [*([] if index is None else [index]), *([torch.tensor(warmth(0))] if warmup else [])]
        each = [t.to(device) for t in each]
        block = None
        if self.compiled is not None and (found := self._found(self.compiled, pair, plan, each, patience)):
            replay, live = found
            if isinstance(replay.machine, Machine) and fits(replay, live, self.optimiser):
                count = min(most, self._ahead(most), replay.machine.at_once, _until_probe(replay))
                rows = [] if index is None or self.batches is None else [self.batches.stacked(index, count)]
                warm = [torch.tensor([warmth(k) for k in range(count)])] if warmup else []
                stacked = [t.to(device) for t in (*rows, *warm)]
                try:
                    block = many_steps(replay, live._replace(each=stacked), self.optimiser, count)
                except RuntimeError as error:
                    replay.machine = f"a compiled step failed ({str(error).splitlines()[0][:160]})"
            if block is None:
                try:
                    block = [one_step(replay, live, self.optimiser)], iterate()
                except (RuntimeError, IndexError) as error:  # a shape that it has only now, say
                    why = f"its recorded form fails ({str(error).splitlines()[0][:160]})"
                    self.compiled.give_up(NotCaptured(why))
        if block is None:
            part = pair if index is None or self.rows is None else batch(pair, self.rows, index)
            averages = dict(self.averages)
            loss = update(self.optimiser, lambda: self.loss(part, plan, warmth(0)), first=not self.taken)
            if not math.isfinite(loss):  # nothing is updated by such a step
                self.averages.clear()
                self.averages.update(averages)
            block = [loss], iterate()
        self.taken += sum(map(math.isfinite, block[0]))
        return Block(*block)

    def loss(self, pair: Pair, plan: Plan, warmth: float = 1.0) -> tuple[float, torch.Tensor]:
        """See `differentiable_loss`. pair: on one batch."""
        return self.batched(lambda n, together: differentiable_loss(plan, pair, n, together, warmth, self.averages))

    def batch(self, pair: Pair) -> Pair:
        """The pair on the next batch."""
        return pair if self.rows is None or self.batches is None else batch(pair, self.rows, next(self.batches))

    def batched(self, compute: Callable[[int, bool], T]) -> T:
        """What it computes from so many particles; from fewer, one by one, once a program bears `vmap` no longer."""
        if self.vectorised:
            try:
                return compute(self.particles, True)
            except RuntimeError as error:
                if not any(word in str(error) for word in ("vmap", "functorch")):
                    raise
                known = len(unconstrained())
                compute(1, False)
                if len(unconstrained()) > known:  # it made a parameter, which it cannot under vmap: now it is there
                    return compute(self.particles, True)
                self.vectorised = False
        return compute(self.few, False)

    def _ahead(self, most: int) -> int:
        """The steps whose batches are known without another permutation of the rows."""
        return most if self.batches is None else 1 + self.batches.left

    def _found(
        self, compiled: Compiled, pair: Pair, plan: Plan, each: list[torch.Tensor], patience: int
    ) -> tuple[Replay, Live] | None:
        """The graph for this step and what it reads."""
        particles, rows = self.particles if self.vectorised else self.few, self.rows

        def value(averages: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            now = list(each)
            part = pair if rows is None else batch(pair, rows, now.pop(0))
            return objective(plan, part, particles, self.vectorised, now.pop() if now else None, averages)

        live = Live(
            leaves=list(unconstrained().values()),
            averages=self.averages,
            each=each,
            data=list({id(v): v for v in tree_leaves(pair.data) if isinstance(v, torch.Tensor)}.values()),
            buffers=[b for module in self.state.modules for b in module.buffers(recurse=False)],
        )
        choices: tuple[Any, ...] = tuple((e.site, e.estimator, e.term) for e in plan.entries)
        around = (torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), *map(id, _PYRO_STACK))
        program = (particles, self.vectorised, None if rows is None else rows.size, values(compiled.outside), around)
        try:
            kind = kind_of((*choices, plan.antithetic), program, live, pair.data, list(self.state.modules))
        except NotCaptured as reason:
            compiled.give_up(reason)
            return None
        replay = compiled.find(kind, live, value, self.optimiser, patience)
        return None if replay is None else (replay, live)


def _until_probe(replay: Replay) -> int:
    """Steps until the next power of two."""
    return (1 << replay.taken.bit_length()) - replay.taken


def iterate() -> torch.Tensor:
    """The parameters as they are, flat, shape (P,), in double precision, in which they are added up."""
    return parameters_to_vector(p.detach() for p in unconstrained().values()).double()
