"""The learning rate as a function of the step: one of the user's, or a scheduler of torch's.

    rate(t),   after t updates

A scheduler steps an optimiser of its own, so that its rates depend on t alone: a run that is resumed, or that takes
many compiled steps in a call, finds the same ones.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..inputs.arguments import shown

# A number, a function of the step, what makes a scheduler, or {pattern of names: rate} (`rates.py`).
Rate = float | Callable[..., Any] | Mapping[str, float]
FALL = 0.7  # of the rate of the steps before, at most: a fall, which a plot of the losses marks
STILL = 0.005  # of its largest rate: below, parameters hardly move, so that their rest says nothing
WANTED = (
    "wanted a positive learning rate, a function of the step, or a scheduler like "
    "functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=1000), or {pattern of parameter names: rate}"
)


class NoRate(ValueError):
    """The schedule gives no learning rate at a step: no bad draw, but a mistake."""


@dataclass
class Schedule:
    """The rates of a run. base: the rate that the optimiser is made with; what is lowered of it lowers all rates."""

    function: Callable[[int], Any]
    base: float
    largest: float = 0.0  # rate so far
    last: float = math.inf
    flat: bool = False  # whether the last two rates were the same
    falls: list[int] = field(default_factory=list)  # the numbers of updates after which a flat rate fell by FALL

    def rate(self, step: int) -> float:
        """The learning rate after so many updates. Raises NoRate if it is no number, negative or not finite."""
        try:
            found = self.function(step)
        except NoRate:
            raise
        except Exception as error:  # at once: none of these is a bad draw
            raise NoRate(f"lr: the schedule failed at step {step:,} ({type(error).__name__}: {error})") from error
        try:
            if isinstance(found, str | bytes | bool):
                raise TypeError
            rate = float(found)
        except (TypeError, ValueError, RuntimeError):
            raise NoRate(f"lr: the schedule gave {shown(found)} at step {step:,}, wanted a number") from None
        if not 0 <= rate < math.inf:
            raise NoRate(f"lr: the schedule gave {rate} at step {step:,}, wanted a finite number, 0 or more")
        if self.flat and rate < FALL * self.last and step not in self.falls:
            self.falls.append(step)
        self.flat = rate == self.last
        self.largest, self.last = max(self.largest, rate), rate
        return rate

    def some_rates(self) -> list[float]:
        """Learning rates at steps 0, 1, 10, 100 and 1000, as far as there are any: they tell schedules apart."""
        rates: list[float] = []
        with suppress(Exception):  # a schedule may be as short as its run
            rates += (float(self.function(step)) for step in (0, 1, 10, 100, 1000))
        return rates

    @property
    def doubt(self) -> str:
        """Why a run that came to rest may be on its way still; empty if the rate is large enough to tell."""
        if self.last > STILL * max(self.largest, self.base):
            return ""
        return (
            f"the schedule lowered the learning rate from {self.largest:.2g} to {self.last:.2g}, at which parameters "
            f"hardly move; give steps=, or a schedule that stays larger"
        )


@contextmanager
def rate_of_step(schedule: Schedule | None, optimiser: torch.optim.Optimizer, step: int) -> Iterator[None]:
    """The optimiser inside has the learning rates of a step; a parameter that joins it then has them too."""
    if schedule is None:
        yield
        return
    groups, defaults = optimiser.param_groups, optimiser.defaults
    before, default, rate = [group["lr"] for group in groups], defaults["lr"], schedule.rate(step)
    scaled = [rate * (lr / schedule.base) for lr in before]  # in this order: the very rate where nothing is lowered
    for group, lr in zip(groups, scaled, strict=True):
        group["lr"] = lr
    defaults["lr"] = scaled[0]
    try:
        yield
    finally:
        defaults["lr"] = default
        for i, group in enumerate(groups):
            decayed = group["lr"] / scaled[i] if i < len(before) and scaled[i] else 1.0  # as ClippedAdam's `lrd` does
            group["lr"] = before[min(i, len(before) - 1)] * decayed


def present_rate(schedule: Schedule | None, optimiser: torch.optim.Optimizer) -> float:
    """The learning rate of the last step."""
    lr = float(optimiser.param_groups[0]["lr"])
    return lr if schedule is None else schedule.last * (lr / schedule.base)


def rates_of_steps(
    schedule: Schedule | None, optimiser: torch.optim.Optimizer, first: int, count: int
) -> list[float] | None:
    """The learning rates of so many steps, of all parameters alike; None without a schedule."""
    if schedule is None:
        return None
    group = optimiser.param_groups[0]
    decay = group.get("lrd", 1.0)  # of ClippedAdam
    return [schedule.rate(first + k) * (group["lr"] / schedule.base) * decay**k for k in range(count)]


def schedule_of(lr: Any, base: float) -> Schedule | None:
    """The schedule that `lr` stands for; None for a number. base: the rate that a scheduler starts from.

    Raises ValueError for what is none, naming what was wanted.
    """
    if isinstance(lr, LRScheduler):
        name = type(lr).__name__
        raise ValueError(
            f"lr: got an instance of {name}, which schedules another optimiser; pass "
            f"functools.partial(torch.optim.lr_scheduler.{name}, ...)"
        )
    if not callable(lr):
        return None
    inner = lr.func if isinstance(lr, functools.partial) else lr
    if inspect.isclass(inner) and issubclass(inner, LRScheduler):
        return Schedule(_Stepped(lr, base), base)
    found = Schedule(lr, base)
    try:
        found.base = found.rate(0) or base
    except NoRate as error:
        with suppress(Exception):
            return Schedule(_Stepped(lr, base), base)  # a function of the optimiser, as SequentialLR needs
        raise ValueError(f"{error}; {WANTED}") from error
    return found


class _Stepped:
    """The rates of a scheduler as a function of the step: it is stepped as far as it is asked."""

    def __init__(self, scheduler: Callable[[Any], Any], base: float) -> None:
        self.name = getattr(scheduler.func if isinstance(scheduler, functools.partial) else scheduler, "__name__", "")
        self.optimiser = torch.optim.Adam([torch.zeros((), requires_grad=True)], lr=base)
        self.optimiser.step()  # torch warns of a scheduler that steps before its optimiser
        settings = self._settings()
        try:
            self.scheduler = scheduler(self.optimiser)
        except (TypeError, ValueError) as error:
            raise ValueError(f"lr: {self.name} cannot be made ({error}); {WANTED}") from error
        if not isinstance(self.scheduler, LRScheduler):
            raise ValueError(f"lr: got {shown(self.scheduler)}; {WANTED}")
        if isinstance(self.scheduler, ReduceLROnPlateau):
            raise ValueError(
                "lr: ReduceLROnPlateau waits for the loss, which is noisy here; leave steps=None, which lowers the "
                "rate where the run rests, or end the run by validation="
            )
        if self._settings() != settings:
            raise ValueError(f"lr: {self.name} changes betas too, which credo keeps; pass cycle_momentum=False")
        self.rates = [self._rate()]

    def __call__(self, step: int) -> float:
        while len(self.rates) <= step:
            try:
                self.optimiser.step()
                self.scheduler.step()
            except ValueError as error:  # OneCycleLR has an end
                raise NoRate(f"lr: {self.name} gives no rate for step {len(self.rates):,} ({error})") from error
            self.rates.append(self._rate())
        return self.rates[step]

    def _rate(self) -> float:
        return float(self.optimiser.param_groups[0]["lr"])

    def _settings(self) -> dict[str, Any]:
        (group,) = self.optimiser.param_groups
        return {name: value for name, value in group.items() if name not in ("params", "lr") and "lr" not in name}
