"""The steps of a run (batch, gradient, update), taken one by one or many in a call.

Eager, replayed and compiled steps draw the same random numbers and give the same losses.
"""

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from ..capture.again import Again
from ..capture.captures import Captures
from ..capture.native import NativeLoop, many_steps
from ..capture.optimiser_state import is_evenly_updated
from ..capture.record import NotCaptured
from ..capture.replay import EagerStep, Replay, graph_failed, one_step
from ..capture.signature import Signature
from ..objective.elbo import differentiable_loss
from ..pair.batches import Batches
from ..pair.pair import Pair
from ..pair.unused import unused_parameters
from ..planning.plan import Plan
from ..runtime.parameters import iterate, unconstrained
from ..runtime.products import products
from ..runtime.state import State
from ..runtime.vectorise import is_out_of_memory
from ..runtime.workers import Workers
from ..updates.schedule import Schedule, rate_of_step, rates_of_steps
from ..updates.tables import Tables
from ..updates.update import has_one_rate, update, without_gradient
from .kept_steps import take_again
from .step_inputs import inputs_of, objective_of, part_of, per_step, signature_now, table_rows
from .together import StepBlock, take_together

T = TypeVar("T")
EAGER = 20  # eager steps before a capture
FEW = 8  # particles where they are made one by one, if the user asked for no number


@dataclass
class Steps:
    """Takes the steps of a run and keeps what lasts between them: optimiser, recordings, batches, baselines."""

    optimiser: torch.optim.Optimizer
    captures: Captures | None  # None: every step is eager
    state: State
    particles: int
    asked: int | None  # the particles that the user asked for
    vectorised: bool  # whether `vmap` makes the particles at once
    batches: Batches | None
    warnings: list[str]  # for the user, at the end of the call
    precision: str | None = None  # of the products in networks
    baselines: dict[str, torch.Tensor] = field(default_factory=dict)
    taken: int = 0  # with a finite loss
    rate: float = 1.0  # the factor that the learning rate has fallen to
    falls: list[int] = field(default_factory=list)  # the numbers of steps taken when it fell
    compiled: tuple[Replay, Signature] | None = None  # the last step, if it was compiled
    schedule: Schedule | None = None  # of the learning rate
    quiet: int = 0  # first steps without log q(z) - log p(z)
    warming: bool = False  # whether log q - log p(z) had less than its weight in the last step
    kept: list[Again] = field(default_factory=list)  # steps that can be taken again without their Python, last first
    tables: Tables | None = None  # parameters with a row for each row of the data
    workers: Workers | None = None  # the processes of the run; what follows is of several, see `together`
    own_noise: bool = False  # whether each of them draws random numbers of its own
    pressed: Callable[[], int] = int  # how often Ctrl-C came here
    last: Replay | None = None  # the last step that was replayed
    averaged: tuple | None = None  # the choices of a plan by which they have taken a step
    first: bool = False  # whether the next step is their first by its plan
    agreed: int | None = None  # how many compiled steps they take now, 0 for one that is not; None: one process decides
    seed: int = 0  # of the run
    all_rows: bool = False  # whether they took batches, and take all rows now

    @property
    def few(self) -> int:  # particles where they are made one by one
        return self.asked or min(self.particles, FEW)

    def take_steps(self, pair: Pair, plan: Plan, most: int = 1, patience: int = EAGER, warmup: int = 0) -> StepBlock:
        """Takes at least one step and at most `most`, on a pair on all data.

        patience: eager steps before a capture. warmup: the step from which log q(z) - log p(z) has its whole weight.
        """
        if self.workers is not None:
            take = functools.partial(self._take, pair, plan, patience=patience, warmup=warmup)
            return take_together(self, pair, plan, most, take)
        return self._take(pair, plan, most, patience, warmup)

    def _take(self, pair: Pair, plan: Plan, most: int, patience: int, warmup: int) -> StepBlock:
        index = None if self.batches is None else next(self.batches)
        self.compiled, self.warming = None, self.kl_weight(warmup) < 1
        block = self._replayed(pair, plan, index, most, patience, warmup)
        if block is None:
            block = self._eager(pair, index, plan, self.kl_weight(warmup))
        self.taken += sum(map(math.isfinite, block.losses))
        return block

    take_again = take_again  # see there

    def loss(self, pair: Pair, plan: Plan, kl_weight: float = 1.0) -> tuple[float, torch.Tensor]:
        """(The estimate of -ELBO in nats, the scalar whose gradient estimates its gradient). pair: on one batch."""
        with products(self.precision):
            return self.batched(
                lambda n, together: differentiable_loss(plan.recipe, pair, n, together, kl_weight, self.baselines)
            )

    def batch(self, pair: Pair) -> Pair:
        """The pair on the next batch, for a call that may change what a step depends on."""
        self.kept = []
        return part_of(self, pair, None if self.batches is None else next(self.batches))

    def all_trained(self) -> AbstractContextManager[None]:
        """Inside, tables are parameters like others, with gradients for all of their rows."""
        return nullcontext() if self.tables is None else self.tables.trained()

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """All that the steps train, unconstrained, by name: parameters and tables."""
        return {**unconstrained(), **({} if self.tables is None else self.tables.wholes)}

    def iterate(self) -> torch.Tensor:
        """The present parameters as looks see them, flat, shape (P,)."""
        return iterate() if self.tables is None else self.tables.iterate()

    def batched(self, compute: Callable[[int, bool], T]) -> T:
        """The result of `compute(particles, vectorised)`; one by one once a program failed under `vmap`."""
        if self.vectorised:
            try:
                return compute(self.particles, True)
            except RuntimeError as error:
                if not any(word in str(error) for word in ("vmap", "functorch")):
                    raise
                known = len(unconstrained())
                compute(1, False)
                if len(unconstrained()) > known:  # no parameter can be created under vmap; now this one exists
                    return compute(self.particles, True)
                self.vectorised, self.kept = False, []
        return compute(self.few, False)

    def make_fewer(self, plan: Plan) -> None:
        """Halves the particles of a step, since one bad draw spoils it, unless the user asked for their number."""
        self.kept = []
        if self.asked is None:
            self.particles = max(self.particles // 2, 2 if plan.needs_score else 1)

    def set_rate(self, rate: float) -> None:
        """Sets the learning rate of every parameter to `rate` times the rate that the run began with."""
        if rate < self.rate:
            self.falls.append(self.taken)
        for group in self.optimiser.param_groups:
            group["lr"] *= rate / self.rate
        self.rate = rate

    def _eager(self, pair: Pair, index: torch.Tensor | None, plan: Plan, kl_weight: float) -> StepBlock:
        before, loss, rows = dict(self.baselines), math.nan, table_rows(self, index)
        part = part_of(self, pair, index, rows is not None)
        try:
            with rate_of_step(self.schedule, self.optimiser, self.taken):
                known = rows, self.workers, self.baselines, self.first
                loss = update(self.optimiser, lambda: self.loss(part, plan, kl_weight), *known)
        finally:
            if not math.isfinite(loss):  # such a step must change nothing
                self.baselines.clear()
                self.baselines.update(before)
        if not self.taken and math.isfinite(loss):
            self.warnings += without_gradient(lambda: unused_parameters(part))
        return StepBlock([loss], self.iterate())

    def _replayed(
        self, pair: Pair, plan: Plan, index: torch.Tensor | None, most: int, patience: int, warmup: int
    ) -> StepBlock | None:
        """Steps replayed from a recording: one, or many if it is compiled. None if this step must be eager."""
        if (captures := self.captures) is None:
            return None
        inputs = inputs_of(self, pair, index, warmup)
        try:
            signature = signature_now(self, captures, pair, plan, inputs)
        except NotCaptured as reason:
            captures.give_up(reason)
            return None
        step = EagerStep(objective_of(self, pair, plan, inputs), inputs, self.optimiser, self.workers)
        self.last = replay = captures.find(signature, step, patience)
        if replay is None:
            return None
        native = replay.recorded.native
        may = self.agreed != 0 and isinstance(native, NativeLoop) and has_one_rate(self.optimiser)
        if may and is_evenly_updated(replay):
            known = most if self.batches is None else 1 + self.batches.left  # without shuffling the rows again
            count = min(most, known, native.at_once, replay.recorded.until_probe) if self.agreed is None else most
            try:
                self.compiled = replay, signature
                stacked = inputs._replace(per_step=per_step(self, index, warmup, count, inputs.leaves[0].device))
                rates = rates_of_steps(self.schedule, self.optimiser, self.taken, count)
                losses, total = many_steps(replay._replace(inputs=stacked), count, rates)
                return StepBlock(losses, total if self.tables is None else self.tables.seen(total, len(losses)))
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                replay.recorded.native = f"a compiled step failed ({str(error).splitlines()[0][:160]})"
        try:
            with rate_of_step(self.schedule, self.optimiser, self.taken):
                return StepBlock([one_step(replay)], self.iterate())
        except (RuntimeError, IndexError) as error:  # e.g. a shape that appears only now
            if is_out_of_memory(error):
                raise
            captures.give_up(graph_failed(error))
            return None

    def kl_weight(self, warmup: int, k: int = 0) -> float:
        """The weight of log q(z) - log p(z) k steps from now, linear from step `quiet` to `warmup`."""
        return min(1.0, max(0, self.taken + k + 1 - self.quiet) / max(1, warmup + 1 - self.quiet))

    @property
    def particles_now(self) -> int:
        """The number of particles of the next step."""
        return self.particles if self.vectorised else self.few
