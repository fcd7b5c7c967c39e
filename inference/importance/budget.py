"""The time that a look at a fit may take: a deadline, asked before each piece of work, and the price of the pieces.

seconds are those of CPU, of all threads of the process; on an accelerator those of a clock, once its work is done.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

TICK = 1e-9  # seconds that a run costs at least: a coarse clock may show none
GROWTH = 4  # of the number of runs, until the price of one shows beside what every call costs


class OutOfTime(Exception):
    """Raised where work would begin after its deadline."""


class Deadline(NamedTuple):
    """A time of the clock of a device."""

    end: float  # seconds
    device: torch.device

    @property
    def left(self) -> float:
        """The seconds that are left, negative after the deadline."""
        return self.end - clock(self.device)

    def check(self, seconds: float = 0.0) -> None:
        """Raises OutOfTime where work of so many seconds would end after the deadline."""
        if self.left < seconds:
            raise OutOfTime


def deadline(seconds: float, device: torch.device) -> Deadline:
    """The deadline so many seconds from now."""
    return Deadline(clock(device) + seconds, device)


def clock(device: torch.device) -> float:
    """Seconds of CPU since the process began; on an accelerator, where a call returns before its work is done, seconds
    of a clock after that work.
    """
    if device.type == "cpu":
        return time.process_time()
    torch.get_device_module(device).synchronize()
    return time.perf_counter()


def price(run: Callable[[int], Any], most: int, by: Deadline) -> float:
    """Seconds that each of n runs costs, where a call makes n at once: `run(n)`, for growing n up to `most`.

    n grows while four times what the last call cost is less than a twentieth of what is left until the deadline.
    """
    run(1)  # the first call is dearer
    n = 1
    while True:
        begun = clock(by.device)
        run(n)
        taken = clock(by.device) - begun
        if n >= most or GROWTH * taken > by.left / 20:
            return max(taken / n, TICK)
        n = min(GROWTH * n, most)
