"""Parameters that get no gradient though the ELBO would gain if they moved: detached, rounded, read by `.item()`."""

import torch

from ..runtime.parameters import unconstrained
from .convergence import TOLERANCE
from .gain import Elbo, elbo_gain, elbo_gradient

SIZES = (3.0, 1.0, 0.1)  # by which a parameter is moved both ways, relative to its value or to 1
MOST = 5  # parameters without a gradient that are moved
SURE = 3  # errors of a gain


def stuck(elbo: Elbo, point: torch.Tensor, *, seed: int) -> str:
    """Which parameter gets no gradient and what moving it gains, in words; empty if none is stuck at this point.

    A parameter that is best where it is, or that nothing reads, is not stuck.
    """
    slope, start, without = elbo_gradient(elbo, point, seed=seed), 0, []
    for name, p in unconstrained().items():
        part = slice(start, start + p.numel())
        start += p.numel()
        if p.numel() and not slope[part].any():
            without.append((name, part))
    for name, part in without[:MOST]:
        if nats := _missed(elbo, point, part, seed):
            return f"parameter {name!r} gets no gradient, though moving it gains {nats:.3g} nats (detached, .item()?)"
    return ""


def _missed(elbo: Elbo, point: torch.Tensor, part: slice, seed: int) -> float:
    """What moving this part of the parameters gains, nats; 0 if nothing beyond its error."""
    for size in SIZES:
        read = False
        for way in (size, -size):
            moved = point.clone()
            moved[part] += way * moved[part].abs().clamp(min=1)
            found = elbo_gain(elbo, moved, point, seed=seed)
            if found.nats > max(SURE * found.error, 2 * found.rounding, TOLERANCE):
                return found.nats
            read = read or found.nats != 0
        if not read:  # nothing reads it
            break
    return 0.0
