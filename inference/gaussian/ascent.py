"""Ascent of a log density from several starting points at once, by Newton's steps or quasi-Newton's (BFGS).

    u <- u + t B g      Newton: B = |-d^2 log p / du^2|^-1, the eigenvalues without their signs (Dauphin et al. 2014)
                        BFGS:   B <- (I - r s y^T) B (I - r y s^T) + r s s^T,  r = 1 / s^T y,  s the step, y = -(g' - g)

A step of Newton's has no unit, and each step may be doubled without end, so that neither units nor distances matter.
BFGS needs gradients alone; its B is dense, O(D^2) a step, where L-BFGS keeps a few pairs and loses narrow valleys. All
points move in step: their gradients are taken together. Source: Nocedal and Wright 2006, chapter 6; Lewis and
Overton 2013 for the line search.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from .full_rank_normal import Scores

ARMIJO, WOLFE = 1e-4, 0.9  # the share of the promised gain that a step must keep; of the slope that it may leave
TRIALS = 40  # lengths tried in a line search: 2**40 is far
DONE = 1e-6  # expected gain, nats, at which a point rests


FLAT = 1e-10  # of the largest eigenvalue, where the diagonal of -d^2 log p / du^2 is 1: smaller ones are taken for it
# us (K, D) -> d^2 log p / du^2 (K, D, D)
Hessians = Callable[[torch.Tensor], torch.Tensor]


class Front(NamedTuple):
    """The points of the ascent after a step, K of them."""

    us: torch.Tensor  # (K, D)
    values: torch.Tensor  # log p, nats (K,)
    gradients: torch.Tensor  # (K, D)
    inverses: torch.Tensor  # (K, D, D), the approximation B of the inverse of -d^2 log p / du^2
    moving: torch.Tensor  # (K,), whether the point has not come to rest


def ascend(scores: Scores, starts: torch.Tensor, hessians: Hessians | None = None) -> Iterator[Front]:
    """Yields the points (K, D) at the starts and after each step, until all rest; the caller may stop before.

    hessians: for Newton's steps; None: BFGS, whose first step tells the scale.
    """
    values, gradients = scores(starts)
    moving = values.isfinite() & gradients.isfinite().all(-1)
    eye = torch.eye(starts.shape[1], dtype=starts.dtype, device=starts.device).expand(len(starts), -1, -1)
    fresh = torch.ones_like(moving)
    B = eye / gradients.norm(dim=1).clamp(min=1e-300)[:, None, None]
    if hessians is not None:
        B = inverted(hessians(starts))
    front = Front(starts, values, gradients, B, moving)
    yield front
    while front.moving.any():
        us, values, gradients, B, moving = front
        ways = torch.einsum("kij,kj->ki", B, gradients)
        promise = (ways * gradients).sum(-1)
        moving = moving & (promise / 2 > DONE)
        t, new_us, new_values, new_gradients = line_search(scores, front, ways, promise, moving)
        moved = moving & (t > 0)
        if hessians is not None:
            B, at = B.clone(), moved.nonzero()[:, 0]
            if len(at):
                B[at] = inverted(hessians(new_us[at]))
        else:
            s, y = new_us - us, gradients - new_gradients
            curved = moved & ((s * y).sum(-1) > 1e-12 * s.norm(dim=1) * y.norm(dim=1))
            scale = (s * y).sum(-1) / y.square().sum(-1).clamp(min=1e-300)
            B = torch.where((fresh & curved)[:, None, None], scale[:, None, None] * eye, B)
            B = torch.where(curved[:, None, None], _updated(B, s, y), B)
            fresh = fresh & ~curved
        front = Front(new_us, new_values, new_gradients, B, moved)
        yield front


def inverted(hessians: torch.Tensor) -> torch.Tensor:
    """|-H|^-1 (K, D, D): positive definite; the identity where H is not finite."""
    scale = torch.diagonal(hessians, dim1=1, dim2=2).abs().rsqrt().nan_to_num(nan=1.0, posinf=1.0)
    scaled = scale[:, :, None] * (hessians + hessians.mT) / -2 * scale[:, None, :]
    finite = scaled.isfinite().all(-1).all(-1)[:, None, None]
    eye = torch.eye(hessians.shape[1], dtype=hessians.dtype, device=hessians.device)
    values, Q = torch.linalg.eigh(torch.where(finite, scaled, eye))
    values = values.abs().clamp(min=FLAT * values.abs().amax(-1, keepdim=True))
    return scale[:, :, None] * ((Q / values[:, None, :]) @ Q.mT) * scale[:, None, :]


def _updated(B: torch.Tensor, s: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The BFGS update of the inverses (K, D, D)."""
    r = 1 / (s * y).sum(-1)[:, None, None]
    By = torch.einsum("kij,kj->ki", B, y)
    sBy = s[:, :, None] * By[:, None, :]
    yBy = (y * By).sum(-1)[:, None, None]
    return B - r * (sBy + sBy.mT) + (r.square() * yBy + r) * (s[:, :, None] * s[:, None, :])


def line_search(
    scores: Scores, front: Front, ways: torch.Tensor, promise: torch.Tensor, moving: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(lengths t (K,), 0 where none is good; u + t way, its value and gradient) that fulfil the weak Wolfe conditions.

    Lengths are doubled until the gain fails, then halved towards the last good one.
    """
    t, low, high = torch.ones_like(promise), torch.zeros_like(promise), torch.full_like(promise, torch.inf)
    best = (torch.zeros_like(promise), front.us, front.values, front.gradients)
    searching = moving.clone()
    for _ in range(TRIALS):
        us = front.us + t[:, None] * ways
        at = searching.nonzero()[:, 0]  # no gradient is taken for those that rest
        if not len(at):
            break
        values, gradients = front.values.clone(), front.gradients.clone()
        values[at], gradients[at] = scores(us[at])
        finite = values.isfinite() & gradients.isfinite().all(-1)
        rises = finite & (values >= front.values + ARMIJO * t * promise)
        flat = rises & ((gradients * ways).sum(-1) <= WOLFE * promise)
        keep = searching & rises & (values >= best[2])
        best = (
            torch.where(keep, t, best[0]),
            torch.where(keep[:, None], us, best[1]),
            torch.where(keep, values, best[2]),
            torch.where(keep[:, None], gradients, best[3]),
        )
        low, high = torch.where(rises, t, low), torch.where(rises, high, t)
        searching = searching & ~flat & ~((best[0] > 0) & (high.isfinite() & (high < 4 * low)))
        t = torch.where(high.isinf(), 2 * t, (low + high) / 2)
    return best
