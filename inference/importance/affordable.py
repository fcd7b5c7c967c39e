"""What of a look is affordable: the draws and the search that its time pays for, and what is too much work anywhere.

    heavy:  10 * operators / n + arithmetic > 1 s / FEWEST      of a value of the density, n of which are taken at once;
                                                                in microseconds, counted as in `pair/work.py`

A machine's speed changes how much is seen in a time. It must not change what is never looked for: that is counted.
"""

from collections.abc import Callable
from typing import Any

import torch

from ..gaussian.density import Density
from ..pair.work import OPERATOR, work
from .budget import Deadline, clock, price
from .chart import Chart
from .improper import SEARCHED

NUMBERS = 2**22  # of all draws of the mixture
DRAWS = 4000  # of the mixture, where they are cheap
FEWEST = 400
TOGETHER = 1024  # points at which the price of one shows
CALLS, POINTS = 20, 36  # of the gradient, one after another, that a search for modes takes, and at how many points
LIGHT = 1.0  # counted seconds of FEWEST draws that no look leaves out


def affordable(density: Density, by: Deadline) -> tuple[int, bool]:
    """(draws of a mixture that a quarter of the time that is left pays for, whether a search for modes is affordable).

    Raises OutOfTime where not even their price can be told.
    """
    chart, u = Chart(density, by=by), density.first
    each = price(lambda n: chart.values(u.expand(n, -1)), min(TOGETHER, 2 * density.chunk), by)
    draws = min(DRAWS, int(by.left / 4 / each), max(FEWEST, NUMBERS // len(u)))
    if len(u) > SEARCHED or CALLS * POINTS * each > by.left:
        return draws, False
    for _ in range(2):  # the first is dearer
        begun = clock(by.device)
        chart.scores(u.expand(POINTS, -1))
        call = clock(by.device) - begun
    return draws, CALLS * call < by.left


def heavy(density: Density) -> bool:
    """Whether FEWEST values of the density are more than a second of work, by counting: the same on every machine."""
    u = density.first
    n = min(FEWEST, 2 * density.chunk) if density.vectorised else 1
    return FEWEST * counted(lambda: density.log_joint(u), n, u.device) > LIGHT


def counted(run: Callable[[], Any], together: int, device: torch.device) -> float:
    """The seconds of a run at a point by counting, where so many points share its operators.

    The arithmetic counts on a CPU only: an accelerator does it in next to no time.
    """
    found = work(run, has_run=True)
    return 1e-6 * (found.operators * OPERATOR / together + (found.arithmetic if device.type == "cpu" else 0.0))
