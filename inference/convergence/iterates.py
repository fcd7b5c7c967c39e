"""The iterates of a stage, as means over blocks of steps, and windows of them that are whole epochs.

    theta_t+1 = theta_t - a g_t(theta_t),    sum_t g_t(theta) over an epoch = the gradient on all rows

The mean of the iterates of a whole epoch lies off the optimum by (theta_end - theta_begin) / (a H E) and by products of
two noises alone: what one batch pulls, the others pull back. Over a part of an epoch of E batches, or batches drawn
anew, it lies off by the noise of T batches, sqrt(N / (B T)) sds of the posterior. So, once the rate has fallen, the
windows that are compared, and the answer, are whole epochs where these are short enough (sampling without replacement:
Shamir 2016; averages of iterates: Polyak and Juditsky 1992).
"""

import math
from dataclasses import dataclass, field

import torch

BLOCK = 25  # steps
FIRST_CHECK = 12  # blocks of a stage after which it is looked at
QUARTERS = 4  # blocks of an epoch, and windows that a stage has at least
LONGEST_EPOCH = 4000  # steps: a stage has at least QUARTERS epochs, and a run 50,000 steps
STRAIGHT = 0.2  # of the speed of a parameter: what it may vary by from block to block on a straight way
MOVING = 0.01  # of the parameters; thousands of weights always have a few that move on
MAX_BLOCKS = 24


@dataclass
class Iterates:
    """The iterates of one stage as means over blocks of steps, merged in pairs when there are many."""

    block: int = BLOCK  # steps
    epoch: int = 0  # steps; 0: no window need be whole epochs
    skipped: int = 0  # first steps, before an epoch begins, that are left to skip
    means: list[torch.Tensor] = field(default_factory=list)
    _sum: torch.Tensor | None = None
    _count: int = 0

    @property
    def room(self) -> int:
        """How many iterates complete a block."""
        return self.skipped or self.block - self._count

    def add(self, parameters: torch.Tensor, count: int = 1) -> bool:
        """Take one iterate, shape (P,), or the sum of several, at most `room`. True when a block is complete."""
        if self.skipped:
            self.skipped -= count
            return False
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
        whole, n = self._blocks_of_epoch, max(1, len(self.means) // 4)
        end = len(self.means)
        if n >= whole:
            n, end = n // whole * whole, end // whole * whole
        return torch.stack(self.means[end - which * n : end - (which - 1) * n])

    @property
    def _blocks_of_epoch(self) -> int:
        return max(1, round(self.epoch / self.block))

    def straight(self) -> bool:
        """Whether parameters, MOVING of all or more, moved at one speed all through the last half of the stage."""
        last = torch.stack(self.means[len(self.means) // 2 :]).diff(dim=0)
        speed = last.mean(0).abs()
        moving = (last.amax(0) - last.amin(0) < STRAIGHT * speed) & (speed > 0)
        return bool(moving.any()) and moving.double().mean().item() >= MOVING

    def average(self) -> torch.Tensor | None:
        """The mean over the last quarter of the stage, shape (P,); None before the first block."""
        return self.quarter(1).mean(0) if self.means else None

    @property
    def first_check(self) -> int:
        """The steps of a stage after which it is looked at for the first time."""
        return self.skipped + max(FIRST_CHECK, QUARTERS * self._blocks_of_epoch) * self.block


def of_whole_epochs(epoch: int, left: int, longest: float) -> Iterates:
    """The iterates of a stage, in windows of whole epochs if these are short.

    epoch: steps, 0 where steps see all rows. left: steps until the next one begins. longest: steps of the stage.
    """
    block = max(BLOCK, math.ceil(epoch / QUARTERS))
    if not BLOCK < epoch <= LONGEST_EPOCH or left + (QUARTERS + 1) * QUARTERS * block > longest:
        return Iterates()
    return Iterates(block, epoch, left)


def drift(new: torch.Tensor, old: torch.Tensor) -> float:
    """The mean squared z-score of the difference between two sets of block means, over the parameters that moved."""
    variance = (new.var(0) + old.var(0)) / len(new)
    moved = variance > 0
    if not moved.any():
        return 0.0
    z2 = (new.mean(0) - old.mean(0))[moved] ** 2 / variance[moved]
    return value if math.isfinite(value := z2.mean().item()) else math.inf
