"""The steps of a run: batch, gradient, update; one by one, or many in a call.

However a step is taken, eager, replayed or compiled, it draws the same random numbers and gives the same loss.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from pyro.poutine.runtime import _PYRO_STACK
from torch.utils._pytree import tree_leaves

from ..capture.captures import Captures
from ..capture.native import NativeLoop, many_steps
from ..capture.optimiser_state import fits
from ..capture.outside import values
from ..capture.record import NotCaptured
from ..capture.replay import Objective, StepInputs, fails, one_step
from ..capture.signature import Signature, signature_of
from ..objective.elbo import differentiable_loss, objective
from ..pair.batches import Shuffled, batch
from ..pair.pair import Pair
from ..planning.plan import Plan
from ..runtime.parameters import flat_parameters, unconstrained
from ..runtime.state import State
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
    compiled: Captures | None
    state: State
    particles: int
    asked: int | None  # the particles that the user asked for
    vectorised: bool
    batches: Shuffled | None
    baselines: dict[str, torch.Tensor] = field(default_factory=dict)
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
        block = None
        if self.compiled is not None:
            block = self._replayed(self.compiled, pair, plan, index, most, patience, warmup)
        if block is None:
            block = self._eager(self._part(pair, index), plan, self._kl_weight(warmup))
        self.taken += sum(map(math.isfinite, block.losses))
        return block

    def loss(self, pair: Pair, plan: Plan, kl_weight: float = 1.0) -> tuple[float, torch.Tensor]:
        """See `differentiable_loss`. pair: on one batch."""
        return self.batched(
            lambda n, together: differentiable_loss(plan.recipe, pair, n, together, kl_weight, self.baselines)
        )

    def batch(self, pair: Pair) -> Pair:
        """The pair on the next batch."""
        return self._part(pair, None if self.batches is None else next(self.batches))

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

    def _eager(self, part: Pair, plan: Plan, kl_weight: float) -> Block:
        before = dict(self.baselines)
        loss = update(self.optimiser, lambda: self.loss(part, plan, kl_weight), first=not self.taken)
        if not math.isfinite(loss):  # nothing is updated by such a step
            self.baselines.clear()
            self.baselines.update(before)
        return Block([loss], iterate())

    def _replayed(
        self,
        compiled: Captures,
        pair: Pair,
        plan: Plan,
        index: torch.Tensor | None,
        most: int,
        patience: int,
        warmup: int,
    ) -> Block | None:
        """Steps of the graph for such data: one, or many where it is machine code. None if this one is to be eager."""
        live = self._live(pair, index, warmup)
        try:
            kind = self._kind(compiled, pair, plan, live)
        except NotCaptured as reason:
            compiled.give_up(reason)
            return None
        replay = compiled.find(kind, live, self._objective(pair, plan, live), self.optimiser, patience)
        if replay is None:
            return None
        if isinstance(replay.machine, NativeLoop) and fits(replay, live, self.optimiser):
            known = most if self.batches is None else 1 + self.batches.left  # without shuffling the rows again
            count = min(most, known, replay.machine.at_once, replay.unprobed)
            try:
                stacked = live._replace(each=self._each(index, warmup, count, live.leaves[0].device))
                return Block(*many_steps(replay, stacked, self.optimiser, count))
            except RuntimeError as error:
                replay.machine = f"a compiled step failed ({str(error).splitlines()[0][:160]})"
        try:
            return Block([one_step(replay, live, self.optimiser)], iterate())
        except (RuntimeError, IndexError) as error:  # a shape that it has only now, say
            compiled.give_up(fails(error))
            return None

    def _live(self, pair: Pair, index: torch.Tensor | None, warmup: int) -> StepInputs:
        leaves = list(unconstrained().values())
        return StepInputs(
            leaves=leaves,
            baselines=self.baselines,
            each=[t[0] for t in self._each(index, warmup, 1, leaves[0].device)],
            data=list({id(v): v for v in tree_leaves(pair.data) if isinstance(v, torch.Tensor)}.values()),
            buffers=[b for module in self.state.modules for b in module.buffers(recurse=False)],
        )

    def _objective(self, pair: Pair, plan: Plan, live: StepInputs) -> Objective:
        """The program of a step, as a function of what is in `live`."""

        def value(baselines: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            each = list(live.each)
            part = pair if self.batches is None else self._part(pair, each.pop(0))
            return objective(plan.recipe, part, self._now, self.vectorised, each.pop() if each else None, baselines)

        return value

    def _kind(self, compiled: Captures, pair: Pair, plan: Plan, live: StepInputs) -> Signature:
        choices: tuple[Any, ...] = tuple((e.site, e.estimator, e.term) for e in plan.entries)
        around = (torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), *map(id, _PYRO_STACK))
        size = None if self.batches is None else self.batches.rows.size
        program = (self._now, self.vectorised, size, around)
        outside = values(compiled.outside)
        return signature_of((*choices, plan.antithetic), program, outside, live, pair.data, list(self.state.modules))

    def _each(self, index: torch.Tensor | None, warmup: int, count: int, device: torch.device) -> list[torch.Tensor]:
        """What is another in every step, stacked for so many: the rows of the batch, the kl_weight."""
        rows = [] if index is None or self.batches is None else [self.batches.stacked(index, count)]
        warm = [torch.tensor([self._kl_weight(warmup, k) for k in range(count)])] if warmup else []
        return [t.to(device) for t in (*rows, *warm)]

    def _part(self, pair: Pair, index: torch.Tensor | None) -> Pair:
        return pair if index is None or self.batches is None else batch(pair, self.batches.rows, index)

    def _kl_weight(self, warmup: int, k: int = 0) -> float:
        """The weight of log q(z) - log p(z) k steps from now."""
        return min(1.0, (self.taken + k + 1) / (warmup + 1))

    @property
    def _now(self) -> int:
        """Particles of a step, if it bears them."""
        return self.particles if self.vectorised else self.few


def iterate() -> torch.Tensor:
    """The parameters as they are, flat, shape (P,), in double precision, in which they are added up."""
    return flat_parameters(unconstrained().values()).double()
