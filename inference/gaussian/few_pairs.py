"""Ascent of a log density of many latents: L-BFGS, which keeps a few pairs of steps and changes of the gradient.

    u <- u + t B g,   B from a diagonal and the last 30 pairs (s, y) by the two-loop recursion, y = -(g' - g)

A dense B of 10,000 latents would be 800 MB. The diagonal learns from each pair, so that latents of different units are
climbed together. All points move in step, as in `ascent.py`. Source: Nocedal and Wright 2006, algorithm 7.4;
Gilbert and Lemaréchal 1989 for the diagonal, as in Pathfinder (Zhang, Carpenter, Gelman and Vehtari 2022, algorithm 3).
"""

from typing import NamedTuple

import torch

from .ascent import DONE, Front, line_search
from .full_rank_normal import Scores

PAIRS = 30
STEPS = 500  # at most
LOOKED_BACK = 8  # steps whose gain is looked at
FLAT = 1e-12  # cosine between s and y, below which a pair tells of no curvature


class Climbed(NamedTuple):
    """The ends of the ascents from K points."""

    us: torch.Tensor  # (K, D)
    values: torch.Tensor  # log p, nats (K,)
    diagonals: torch.Tensor  # (K, D), approximations of the diagonal of the inverse of -d^2 log p / du^2


class _Pair(NamedTuple):
    s: torch.Tensor  # (K, D)
    y: torch.Tensor  # (K, D)
    r: torch.Tensor  # 1 / s^T y (K, 1), 0 where the pair tells of no curvature


def climb(
    scores: Scores, starts: torch.Tensor, diagonals: torch.Tensor | None = None, *, little: float = 0.0
) -> Climbed:
    """The ends of the ascents from the starts (K, D). scores: of us (n, D).

    diagonals: of the inverse of -d^2 log p / du^2 (K, D), where they are known; None: the first step tells the scale.
    little: the gain of 8 steps, nats, below which a point rests; 0: it rests only at a maximum.
    """
    values, gradients = scores(starts)
    front = Front(starts, values, gradients, starts[:, None, :0], values.isfinite() & gradients.isfinite().all(-1))
    fresh, pairs = torch.full_like(values, diagonals is None, dtype=torch.bool)[:, None], list[_Pair]()
    if diagonals is None:
        diagonals = torch.ones_like(starts) / gradients.norm(dim=1, keepdim=True).clamp(min=1e-300)
    gained = [values]
    for _ in range(STEPS):
        ways = _two_loops(front.gradients, diagonals, pairs)
        promise = (ways * front.gradients).sum(-1)
        moving = front.moving & (promise / 2 > DONE)
        if not moving.any():
            break
        t, us, values, gradients = line_search(scores, front, ways, promise, moving)
        pair = _pair(us - front.us, front.gradients - gradients)
        curved = pair.r > 0
        first = 1 / (pair.r * pair.y.square().sum(-1, keepdim=True)).clamp(min=1e-300)
        diagonals = torch.where(fresh & curved, first.expand_as(diagonals), diagonals)
        diagonals, fresh = torch.where(curved, _learned(diagonals, pair), diagonals), fresh & ~curved
        pairs = [*pairs, pair][-PAIRS:]
        gained = [*gained, values][-LOOKED_BACK:]
        rises = torch.full_like(moving, len(gained) < LOOKED_BACK) | (values - gained[0] >= little)
        front = Front(us, values, gradients, front.inverses, moving & (t > 0) & rises)
    return Climbed(front.us, front.values, diagonals)


def _pair(s: torch.Tensor, y: torch.Tensor) -> _Pair:
    product = (s * y).sum(-1, keepdim=True)
    curved = product > FLAT * s.norm(dim=1, keepdim=True) * y.norm(dim=1, keepdim=True)
    return _Pair(s, y, torch.where(curved, 1 / torch.where(curved, product, 1.0), 0.0))


def _learned(diagonals: torch.Tensor, pair: _Pair) -> torch.Tensor:
    """The diagonals after a pair: their inverse gets the diagonal of the BFGS update."""
    s, y, r = pair
    a = (y.square() * diagonals).sum(-1, keepdim=True) * r
    c = (s.square() / diagonals).sum(-1, keepdim=True).clamp(min=1e-300)
    inverses = a / diagonals + y.square() * r - a * s.square() / (c * diagonals.square())
    return torch.where(inverses > 0, 1 / inverses.clamp(min=1e-300), diagonals)


def _two_loops(gradients: torch.Tensor, diagonals: torch.Tensor, pairs: list[_Pair]) -> torch.Tensor:
    """B g (K, D)."""
    way, shares = gradients, []
    for s, y, r in reversed(pairs):
        shares.append(r * (s * way).sum(-1, keepdim=True))
        way = way - shares[-1] * y
    way = diagonals * way
    for (s, y, r), share in zip(pairs, reversed(shares), strict=True):
        way = way + s * (share - r * (y * way).sum(-1, keepdim=True))
    return way
