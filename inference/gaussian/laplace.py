"""Laplace's approximation: the normal at the mode with the curvature there.

    q(u) = N(u*, H^-1),   u* = argmax log p(data, u),   H = -d^2 log p / du^2 at u*      in unconstrained space

Newton's steps find u* from the end of an ascent. Where the density has no mode with a positive definite H, an improper
posterior or the spike of a hierarchy at scale zero, there is no such normal. Source: Tierney and Kadane 1986.
"""

from itertools import islice
from typing import NamedTuple

import torch

from .ascent import Hessians, ascend, inverted
from .full_rank_normal import FullRankNormal, Scores

STEPS = 50  # of Newton's
DONE = 1e-8  # expected gain, nats, of a further step at the mode


class NoMode(ValueError):
    """Raised where the ascent ends at no maximum with a positive definite Hessian."""


class Mode(NamedTuple):
    """The mode and the normal there."""

    normal: FullRankNormal
    log_joint: float  # log p(data, u*), nats
    log_evidence: float  # Laplace's approximation of log p(data), nats: exact for a normal posterior
    steps: int


def laplace(scores: Scores, hessians: Hessians, start: torch.Tensor) -> Mode:
    """The normal at the mode that Newton's steps reach from `start` (D,). hessians: us (K, D) -> (K, D, D).

    Raises NoMode if they reach none.
    """
    fronts = list(islice(ascend(scores, start[None], hessians), STEPS))
    steps, front = len(fronts) - 1, fronts[-1]
    u, (value,), (gradient,) = front.us, front.values, front.gradients
    for _ in range(3):  # the ascent rests a little before: without a line search, rounding decides
        better = u + (inverted(hessians(u))[0] @ gradient)[None]
        (new,), (slope,) = scores(better)
        if not new.isfinite() or slope.norm() >= gradient.norm():
            break
        u, value, gradient = better, new, slope
    (hessian,) = hessians(u)
    normal = curved(u[0], hessian)
    if normal is None or not (normal.factor.T @ gradient).square().sum() / 2 < DONE + 1e-10 * value.abs():
        raise NoMode(
            f"the density has no mode that {steps} steps of Newton's reach with a negative definite Hessian: the "
            f"posterior may be improper, or rise without end as a scale goes to zero"
        )
    D = len(u[0])
    evidence = value + normal.log_det + D * torch.log(2 * torch.pi * torch.ones_like(value)) / 2
    return Mode(normal, value.item(), evidence.item(), steps)


def curved(u: torch.Tensor, hessian: torch.Tensor) -> FullRankNormal | None:
    """N(u, (-H)^-1) for a Hessian (D, D) of the log density; None where -H is not positive definite."""
    scale = hessian.diagonal().abs().rsqrt()
    factor, failed = torch.linalg.cholesky_ex(-scale[:, None] * (hessian + hessian.T) / 2 * scale)
    if failed or not factor.isfinite().all():
        return None
    eye = torch.eye(len(u), dtype=u.dtype, device=u.device)
    return FullRankNormal(u, scale[:, None] * torch.linalg.solve_triangular(factor, eye, upper=False).T)
