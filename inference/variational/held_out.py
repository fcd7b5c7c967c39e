"""Held-out rows: a run ends when they have not become likelier for a while, and keeps its best parameters.

    sum_n log 1/K sum_k p(x_n | z_k),   z_k ~ q         nats; with latents of a row their weights, see log_likelihood

It is measured at the mean of the iterates since the last look, with the same noise at each look: the noise of single
steps, and of draws, hides a gain a hundred times as large.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import torch

from ..inputs.arguments import shown, whole_number
from ..inputs.split import complete, split
from ..pair.pair import Program
from ..predictive.likelihood import log_likelihood
from ..runtime.generators import generators_kept
from ..runtime.parameters import flat_parameters, place_parameters, unconstrained
from ..runtime.workers import agreed
from ..stepping.steps import StepBlock
from ..streaming.source import source_of
from .callback import undisturbed
from .course import Course
from .endings import Mean
from .loop import Watch
from .result import finished

PATIENCE = 10  # looks without a gain, unless the user says how many
ENDED = "ended by the held-out rows"
DRAWS = 16  # of the latents at each look


@dataclass
class HeldOut:
    """Looks at held-out rows every so many steps, and ends the run after `patience` looks without a gain."""

    score: Callable[[torch.Tensor], float]  # of a point of the parameters, shape (P,), in nats
    rows: int
    every: int
    patience: int
    losses: list[float]  # of the runner so far: their number is that of the steps
    best: float = -math.inf
    point: torch.Tensor | None = None  # the best so far
    step: int = 0  # of the best
    without: int = 0  # looks without a gain
    mean: Mean = field(default_factory=Mean)

    def pause(self, done: int) -> int:
        return done + self.every - len(self.losses) % self.every

    def after(self, block: StepBlock, done: int, last: bool) -> str:
        self.mean.add(block.total, len(block.losses))
        step, point = len(self.losses), self.mean.value()
        if step % self.every or point is None:
            return ""
        nats, self.mean = self.score(point), Mean()
        self.without += 1
        if nats > self.best:  # not so for NaN
            self.best, self.point, self.step, self.without = nats, point, step, 0
        if self.without < self.patience:
            return ""
        return f"{ENDED} at step {step:,}: no gain in the last {self.patience} looks"

    def chosen(self, average: torch.Tensor | None, stopped: str) -> tuple[torch.Tensor | None, str]:
        """(the better of the best point and of the average at the end, why the run ended), the latter with the step."""
        if self.point is None or (average is not None and self.score(average) >= self.best):
            return average, stopped
        each = f"{self.best / self.rows:,.4g} nats a row"
        stopped = f"at rest{stopped.removeprefix('converged')}" if stopped.startswith("converged") else stopped
        return self.point, f"{stopped}; kept the parameters of step {self.step:,} ({each})"


def checked_validation(validation: Any, patience: Any) -> int:
    """The number of looks without a gain. Raises ValueError for what is neither data nor a share."""
    share = isinstance(validation, Real) and not isinstance(validation, torch.Tensor)
    if share and (isinstance(validation, bool) or not 0 < validation < 1):
        raise ValueError(
            f"validation: got {shown(validation)}, wanted a share of the rows between 0 and 1, or data: (x_val, y_val)"
        )
    return whole_number("patience", patience, 1)


def parted(
    model: Program, data: tuple[Any, ...], validation: Any, seed: int, batch_size: int | None
) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    """(the data to train on, the held-out data); the latter is None if none was asked for.

    Raises ValueError for a share of rows that do not fit into memory.
    """
    if validation is None:
        return data, None
    if (source := source_of(model, data, batch_size)) is not None:
        if isinstance(validation, Real):
            raise ValueError(
                f"validation: got {shown(validation)} of {source.n:,} rows, which the run reads by windows; pass "
                f"held-out rows that memory holds, validation=(x_val, y_val)"
            )
        return data, complete(source.given((np.zeros(1),) * len(source.rows)), validation)
    if isinstance(validation, Real):
        return split(data, float(validation), seed)
    return data, complete(data, validation)


def held_out(course: Course, held: tuple[Any, ...], every: int, patience: int) -> HeldOut:
    """The looks of a run at its held-out rows. Raises ValueError if they have no likelihood, before the first step."""

    def values(point: torch.Tensor) -> torch.Tensor:
        leaves, settings = list(unconstrained().values()), course.settings
        now = flat_parameters(leaves)
        with generators_kept(), undisturbed(course.steps):
            try:
                place_parameters(point, leaves)
                fit = finished(settings.model, course.pair, [], course.plans.now(), "", settings.seed, course.given)
                return log_likelihood(fit, DRAWS, *held, seed=settings.seed).values
            finally:
                place_parameters(now, leaves)

    if course.steps.tables is not None:
        raise ValueError(
            f"validation: held-out rows have no row in parameter {next(iter(course.steps.tables.wholes))!r}, which has "
            f"one for each row of the data; leave out validation, or take guide='amortised'"
        )
    try:
        rows = len(values(flat_parameters(unconstrained().values())))
    except (ValueError, RuntimeError, IndexError) as error:
        said = str(error).partition("\n")[0] if isinstance(error, RuntimeError) else str(error)
        raise ValueError(
            f"validation: {said}. Model and guide run on the held-out rows alone: a guide with a parameter for each "
            f"row, sites for each step of a sequence and matrices of rows by rows do not fit them; pass validation=("
            f"...) that does, or leave it out"
        ) from error

    def score(point: torch.Tensor) -> float:
        return agreed(course.settings.workers, lambda: values(point).sum().item())

    return HeldOut(score, rows, every, patience, course.losses)


def kept_by(watches: Iterable[Watch], average: torch.Tensor | None, stopped: str) -> tuple[torch.Tensor | None, str]:
    """(the parameters of the fit, why the run ended), as the held-out rows want them, if there are any."""
    for watch in watches:
        if isinstance(watch, HeldOut):
            return watch.chosen(average, stopped)
    return average, stopped
