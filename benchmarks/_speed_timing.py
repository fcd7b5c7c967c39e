"""The stopwatch of speed.py: contenders take turns in one process, so that other work on the machine affects all alike.

    microseconds a step = median over rounds of (wall time of a round) / (its steps)

A round is one call with as many steps as take about 0.2 s; the overhead of the call is included.
"""

import statistics
import time
from collections.abc import Mapping
from typing import NamedTuple

from _speed_workloads import Contender

PATIENCE = 180.0  # seconds that a contender may take until the code that is to be timed is in use
BUSY = 0.9, 1.1  # CPU seconds a second of wall time: below, others had the core; above, it took a second one


class Timing(NamedTuple):
    microseconds: float  # of a step, median
    low: float  # quartiles
    high: float
    cpu: float  # seconds of CPU a second of wall time, median
    steps: int  # in a round


def timed(contenders: Mapping[str, Contender], seconds: float, rounds: int) -> dict[str, Timing]:
    """Times the contenders in turn after a warm-up; each round begins with the next contender."""
    for contender in contenders.values():
        warm(contender)
    steps = {label: calibrated(contender, seconds) for label, contender in contenders.items()}
    walls: dict[str, list[float]] = {label: [] for label in contenders}
    shares: dict[str, list[float]] = {label: [] for label in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for label in order:
            wall, cpu = _clocks(contenders[label], steps[label])
            walls[label].append(1e6 * wall / steps[label])
            shares[label].append(cpu / wall)
        order = order[1:] + order[:1]
    found = {}
    for label, every in walls.items():
        low, middle, high = statistics.quantiles(every, n=4)
        found[label] = Timing(middle, low, high, statistics.median(shares[label]), steps[label])
    return found


def warm(contender: Contender) -> bool:
    """Runs until the contender is ready or PATIENCE is over; returns whether it is ready."""
    until = time.perf_counter() + PATIENCE
    while not contender.ready() and time.perf_counter() < until:
        contender.steps(50)
    return contender.ready()


def calibrated(contender: Contender, seconds: float) -> int:
    """The number of steps in one call that take this long, at least 2. They run once untimed, in case they compile."""
    n = 2
    while True:
        contender.steps(n)
        wall, _ = _clocks(contender, n)
        if wall > seconds / 2:
            n = max(2, round(n * seconds / wall))
            contender.steps(n)
            return n
        n *= round(min(10.0, max(2.0, seconds / wall)))


def notes(timings: Mapping[str, Timing]) -> str:
    """The contenders that had less or more than one core to themselves; empty if there are none."""
    odd = {label: t.cpu for label, t in timings.items() if not BUSY[0] <= t.cpu <= BUSY[1]}
    return ", ".join(f"{label} {cpu:.2f}" for label, cpu in odd.items())


def _clocks(contender: Contender, n: int) -> tuple[float, float]:
    """(wall, CPU) seconds of n steps."""
    wall, cpu = time.perf_counter(), time.process_time()
    contender.steps(n)
    return time.perf_counter() - wall, time.process_time() - cpu
