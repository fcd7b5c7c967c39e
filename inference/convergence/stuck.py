"""Parameters that no gradient moves: the ELBO would gain if they moved (detached, rounded, `.item()`), or nothing reads
them."""

from typing import NamedTuple

import torch

from ..pair.batches import batch
from ..pair.unused import unused_parameters
from ..runtime.generators import noise
from ..runtime.parameters import unconstrained
from .gain import TOLERANCE, Elbo, elbo_gain, elbo_gradient

SIZES = (3.0, 1.0, 0.1)  # by which a parameter is moved both ways, relative to its value or to 1
MOST = 5  # parameters without a gradient that are moved
SURE = 3  # errors of a gain


class _Moved(NamedTuple):
    """What came of moving a parameter: its gain in nats, 0 if nothing beyond its error; whether the ELBO reads it."""

    nats: float
    read: bool


def stuck(elbo: Elbo, point: torch.Tensor, *, seed: int) -> str:
    """Which parameter gets no gradient and why that is wrong, in words; empty if none is stuck at this point.

    A parameter that is best where it is, as one whose gradient is exactly zero may be, is not stuck.
    """
    slope, start, without = elbo_gradient(elbo, point, seed=seed), 0, {}
    for name, p in unconstrained().items():
        part = slice(start, start + p.numel())
        start += p.numel()
        if p.numel() and not slope[part].any():
            without[name] = part
    moved = {name: _move(elbo, point, part, seed) for name, part in list(without.items())[:MOST]}
    for name, found in moved.items():
        if found.nats:
            gained = f"though moving it gains {found.nats:.3g} nats (detached, .item()?)"
            return f"parameter {name!r} gets no gradient, {gained}"
    if not without:
        return ""
    never = set(_unused(elbo, seed))
    for name in without:
        if name in never and not moved.get(name, _Moved(0.0, False)).read:
            return (
                f"parameter {name!r} gets no gradient, since nothing uses it; let a site depend on it, remove it, or "
                f"freeze it with requires_grad_(False) if it belongs to a network"
            )
    return ""


def _unused(elbo: Elbo, seed: int) -> list[str]:
    """The parameters that no site of the pair, on one batch, depends on."""
    pair = elbo.pair
    if elbo.rows is not None:
        with noise(seed):
            pair = batch(pair, elbo.rows, torch.randperm(elbo.rows.n)[: elbo.rows.size])
    return unused_parameters(pair)


def _move(elbo: Elbo, point: torch.Tensor, part: slice, seed: int) -> _Moved:
    """Moves this part of the parameters both ways, by several sizes."""
    for size in SIZES:
        read = False
        for way in (size, -size):
            moved = point.clone()
            moved[part] += way * moved[part].abs().clamp(min=1)
            found = elbo_gain(elbo, moved, point, seed=seed)
            if found.nats > max(SURE * found.error, 2 * found.rounding, TOLERANCE):
                return _Moved(found.nats, True)
            read = read or found.nats != 0
        if not read:
            return _Moved(0.0, size != SIZES[0])
    return _Moved(0.0, True)
