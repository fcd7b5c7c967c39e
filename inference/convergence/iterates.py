"""The iterates of a stage, as means over blocks of steps (averages of iterates: Polyak and Juditsky 1992)."""

import math
from dataclasses import dataclass, field

import torch

BLOCK = 25  # steps
FIRST_CHECK = 12 * BLOCK  # steps of a stage after which it is looked at for the first time
STRAIGHT = 0.2  # of the speed of a parameter: what it may vary by from block to block on a straight way
MOVING = 0.01  # of the parameters; thousands of weights always have a few that move on
MAX_BLOCKS = 24


@dataclass
class Iterates:
    """The iterates of one stage as means over blocks of steps, merged in pairs when there are many."""

    block: int = BLOCK  # steps
    means: list[torch.Tensor] = field(default_factory=list)
    _sum: torch.Tensor | None = None
    _count: int = 0

    @property
    def room(self) -> int:
        """How many iterates complete a block."""
        return self.block - self._count

    def add(self, parameters: torch.Tensor, count: int = 1) -> bool:
        """Take one iterate, shape (P,), or the sum of several, at most `room`. True when a block is complete."""
        if self._sum is None or self._sum.shape != parameters.shape:  # a parameter appeared: begin again
            self.means, self._count = [], 0
            self._sum = torch.zeros_like(parameters)
        self._sum += parameters
        self._count += count
        if self._count < self.block:
            return False
        mean = self._sum / self._count
        self._sum, self._count = torch.zeros_like(parameters), 0
        if not torch.isfinite(mean).all():
            return False
        self.means.append(mean)
        if len(self.means) == MAX_BLOCKS:
            self.means = [(a + b) / 2 for a, b in zip(self.means[::2], self.means[1::2], strict=True)]
            self.block *= 2
        return True

    def quarter(self, which: int) -> torch.Tensor:
        """The block means of the last (1) or the last but one (2) quarter of the stage, shape (blocks, P)."""
        n = max(1, len(self.means) // 4)
        return torch.stack(self.means[len(self.means) - which * n : len(self.means) - (which - 1) * n])

    def straight(self) -> bool:
        """Whether parameters, MOVING of all or more, moved at one speed all through the last half of the stage."""
        last = torch.stack(self.means[len(self.means) // 2 :]).diff(dim=0)
        speed = last.mean(0).abs()
        moving = (last.amax(0) - last.amin(0) < STRAIGHT * speed) & (speed > 0)
        return bool(moving.any()) and moving.double().mean().item() >= MOVING

    def average(self) -> torch.Tensor | None:
        """The mean over the last quarter of the stage, shape (P,); None before the first block."""
        return self.quarter(1).mean(0) if self.means else None


def drift(new: torch.Tensor, old: torch.Tensor) -> float:
    """The mean squared z-score of the difference between two sets of block means, over the parameters that moved."""
    variance = (new.var(0) + old.var(0)) / len(new)
    moved = variance > 0
    if not moved.any():
        return 0.0
    z2 = (new.mean(0) - old.mean(0))[moved] ** 2 / variance[moved]
    return value if math.isfinite(value := z2.mean().item()) else math.inf
