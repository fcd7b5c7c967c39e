"""Whether what was found is the posterior: log p(data, z) - log q(z) must be one number, which is log p(data).

It is looked at where q is, at 1, 3 and 10 of its sds, at many points over posterior and prior, and far beyond both,
where a kink would show, or a tail that is heavier. What it may vary by is the rounding of the sums it is made of.
"""

from typing import NamedTuple

import torch

from .belief import Fitted
from .coordinates import Coordinates, Values
from .log_joint import LogJoint
from .points import even, near, wide
from .refusal import refusal

NEAR = (1.0, 1.0, 3.0, 3.0)  # sds


AWAY = 10.0  # sds


ROUNDING = 2.0**10 * torch.finfo(torch.float64).eps  # of a sum, relative to the magnitudes of what is summed


EDGE = 32.0  # times as much away from the posterior: near -1, torch's log1p is itself off by 5e-12 of its value


FLOOR = 1e-10  # nats


JITTER = 64.0  # times the difference that moving a point by some units in the last place makes


class Left(NamedTuple):
    """log p(data, z) - log q(z) at a point, nats, and its rounding error. Infinite or NaN where p(data, z) is not."""

    value: float
    error: float
    z: Values


def prove(f: LogJoint, where: Coordinates, fits: list[Fitted], starts: list[torch.Tensor], n: int) -> float:
    """log p(data), nats. n: points over posterior and prior.

    Raises NoClosedForm if what was found is not the posterior.
    """
    with torch.no_grad():
        if any(fit.belief is None for fit in fits):
            raise refusal(f, where, fits, starts)
        around = [left(f, fits, near(where, fits, width)) for width in NEAR]
        log_evidence = (around[0].value + around[1].value) / 2
        error = max(around[0].error, around[1].error)
        for point in around:
            if not agrees(f, fits, point, log_evidence, error):
                raise refusal(f, where, fits, starts, point.z, abs(point.value - log_evidence))
        away = [where.flat(near(where, fits, AWAY)), *starts[1:], *wide(where, fits, starts)]
        for x in [*away, *even(f, where, fits, starts, n)]:
            point = left(f, fits, where.values(x))
            if not agrees(f, fits, point._replace(error=EDGE * point.error), log_evidence, error):
                raise refusal(f, where, fits, starts, point.z, abs(point.value - log_evidence))
        return log_evidence


def left(f: LogJoint, fits: list[Fitted], z: Values) -> Left:
    """At one point."""
    total, size = f(z)
    beliefs = [fit.belief for fit in fits if fit.belief is not None]
    log_q = sum((b.log_prob(z) for b in beliefs), torch.zeros((), dtype=torch.float64)).item()
    return Left(total.item() - log_q, FLOOR + ROUNDING * (size + sum(b.size(z) for b in beliefs)), z)


def agrees(f: LogJoint, fits: list[Fitted], point: Left, log_evidence: float, error: float) -> bool:
    """Whether this is the evidence but for rounding, which is measured where the sums alone do not explain it."""
    off = abs(point.value - log_evidence)
    if not off < float("inf"):
        return False
    if off <= point.error + error:
        return True
    jitter = 0.0
    for sign in (1, -1, 2):
        moved = {
            name: z * (1 + sign * 4 * torch.finfo(z.dtype).eps * torch.randn_like(z)) for name, z in point.z.items()
        }
        jitter = max(jitter, abs(left(f, fits, moved).value - point.value))
    return jitter < float("inf") and off <= point.error + error + JITTER * jitter
