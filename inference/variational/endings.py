"""When a run ends and which average of its iterates is the answer: after a number of steps, or once converged."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch

from ..convergence.convergence import ANNEAL, Convergence
from ..stepping.steps import StepBlock

MAX_STEPS = 50_000


class Ending(Protocol):
    """What the loop asks after each block of steps."""

    @property
    def limit(self) -> int:
        """The largest number of steps."""
        ...

    @property
    def at_limit(self) -> str:
        """Why the run ended, if it reached the limit."""
        ...

    def pause(self, done: int) -> int:
        """The step after which the ending must see the iterates, given the number of steps done."""
        ...

    def after(self, block: StepBlock, done: int) -> str:
        """Why the run ends after this block, which ended at step `done`; empty if it goes on."""
        ...

    def average(self) -> torch.Tensor | None:
        """The average of the last iterates, shape (P,); None if there were too few."""
        ...


@dataclass
class Mean:
    """A running mean; it begins anew when the shape changes (a parameter appeared)."""

    count: int = 0
    total: torch.Tensor | None = None

    def add(self, x: torch.Tensor, count: int = 1) -> None:
        """x: the sum of so many."""
        if self.total is None or self.total.shape != x.shape:
            self.count, self.total = 0, torch.zeros_like(x)
        self.count, self.total = self.count + count, self.total + x

    def value(self) -> torch.Tensor | None:
        return None if self.total is None else self.total / self.count


@dataclass
class FixedSteps:
    """Ends after so many steps at a constant learning rate; the last quarter of the iterates is averaged.

    replan: called half-way with the factor of the learning rate, to choose estimators anew.
    """

    limit: int
    replan: Callable[[float], None] = lambda rate: None
    tail: Mean = field(default_factory=Mean)

    @property
    def at_limit(self) -> str:
        return f"after the {self.limit:,} steps asked for"

    @property
    def averaged_from(self) -> int:
        return self.limit - max(1, self.limit // 4)

    def pause(self, done: int) -> int:
        return min(stop for stop in (self.limit // 2, self.averaged_from, self.limit) if stop > done)

    def after(self, block: StepBlock, done: int) -> str:
        if done == self.limit // 2:
            self.replan(1.0)
        if done > self.averaged_from:
            self.tail.add(block.total, len(block.losses))
        return ""

    def average(self) -> torch.Tensor | None:
        return self.tail.value()


@dataclass
class UntilConverged:
    """Ends when `Convergence` says so, at the latest after MAX_STEPS.

    replan: called with the factor of the learning rate when a stage ends and now and then within one, to choose
    estimators anew. warmup: the number of first steps that have another objective and do not count. move: called with
    a better point of the parameters, shape (P,), from which the run goes on.
    """

    convergence: Convergence
    replan: Callable[[float], None]
    warmup: int = 0
    move: Callable[[torch.Tensor], None] = lambda point: None
    limit: int = MAX_STEPS

    @property
    def at_limit(self) -> str:
        return f"not converged in {self.limit:,} steps"

    def pause(self, done: int) -> int:
        return min(stop for stop in (self.warmup, done + self.convergence.iterates.room, self.limit) if stop > done)

    def after(self, block: StepBlock, done: int) -> str:
        if done <= self.warmup:
            return ""
        action = self.convergence.add(block.total, len(block.losses))
        if action == "stop":
            return self.convergence.verdict
        if action == "move" and (point := self.convergence.average()) is not None:
            self.move(point)
        if action != "go on":
            self.replan(ANNEAL ** (self.convergence.stages - 1))
        return ""

    def average(self) -> torch.Tensor | None:
        return self.convergence.average()
