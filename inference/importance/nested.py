"""Weighted draws of a posterior whose latents are nearly normal given one to three of them: nested Laplace.

    h ~ sum_k s_k N(h_k, (step F)^2) and a wider part,   z | h ~ N(m_k + J_k (h - h_k), C_k),  k the node nearest to h

    m_k the mode of p(z | h_k, data),   C_k^-1 = -d^2 log p / dz^2,   J_k = C_k d^2 log p / dz dh      at (h_k, m_k)
    s_k of p(data, h_k, m_k) |C_k|^(1/2)

h are scales, length scales and their like: where they are latent, no one normal holds the others, however many. The
nodes h_k are a grid in units of the sds of a normal, filled from its mean to where the density of h is small. Laplace's
approximation is a proposal only: the draws have weights.
Source: Rue, Martino and Chopin 2009, section 3, for the nodes and their densities; importance sampling in its place.
"""

import itertools
import math
from typing import NamedTuple

import torch

from ..gaussian.full_rank_normal import FullRankNormal, generator
from ..gaussian.psis import importance
from .adapted import Drawn
from .budget import clock
from .chart import Chart
from .mixture import NORMAL, NU, Mixture

MOST = 3  # latents h
CANDIDATES = 12  # scalar sites, of which h are chosen
BENT = (0.3, 0.02)  # of the largest change of the curvature along a latent: those of larger ones are h; tried in turn
GOOD = 0.2  # effective share of the draws, at which no more latents are tried
STEPS = (1.0, 1.5, 1.75)  # of the grid, in sds, for one, two and three latents h
DEEP = 5.0  # nats below the largest density of h, beyond which the grid is not filled
NODES, NUMBERS = (30, 100, 200), 2**25  # nodes at most, by the latents h; numbers in the covariances of all nodes
WIDER = 3  # grids, each twice as wide as the one before, where so many nodes do not fill it
TIME = 0.6  # of what is left until the deadline, for the nodes
WIDTH = 0.7  # of a node, in steps
WIDE, SHARE = 1.5, 0.1  # sds, and share of the wider part, a Student distribution
NEWTON, RESTS = 8, 0.1  # steps at a node at most; expected gain in nats at which a node rests
LATENTS = 5  # fewest, beside h


class _Nodes(NamedTuple):
    """Nodes, K of them, G latents h, R others."""

    places: torch.Tensor  # in steps of the grid (K, G)
    us: torch.Tensor  # (K, D), the mode of z at each h
    densities: torch.Tensor  # log of p(data, h_k) by Laplace, nats (K,)
    slopes: torch.Tensor  # J (K, R, G)
    factors: torch.Tensor  # of C (K, R, R)


def nested(chart: Chart, normal: FullRankNormal, *, draws: int, seed: int = 0) -> Drawn | None:
    """Weighted draws around a normal near the posterior; None where no latents h are found, or no modes given them.

    chart: not decentred, of a density whose Hessians are cheap. Raises OutOfTime.
    """
    order, changes = _outer(chart, normal)
    found: Drawn | None = None
    tried = 0
    for bent in BENT:
        G = int((changes > bent * changes.max()).sum()) if len(changes) else 0
        if G > tried and len(normal.mean) >= LATENTS + G:
            tried, at = G, order[:G].sort().values
            drawn = _given(chart, normal, at, draws, seed)
            if drawn is not None and (found is None or drawn.importance.ess > found.importance.ess):
                found = drawn
        if found is not None and found.importance.leaves(GOOD):
            break
    return found


def _given(chart: Chart, normal: FullRankNormal, at: torch.Tensor, draws: int, seed: int) -> Drawn | None:
    """Weighted draws for these latents h (G,); None without nodes."""
    rest = torch.ones(len(normal.mean), dtype=torch.bool, device=at.device)
    rest[at] = False
    around = FullRankNormal(normal.mean[at], torch.linalg.cholesky(normal.covariance[at][:, at]))
    for _ in range(WIDER):
        nodes, full = _filled(chart, normal, around, at, rest)
        if nodes is None:
            return None
        if full:
            break
        around = around._replace(factor=2 * around.factor)
    assert nodes is not None  # of the last time
    return _drawn(chart, around, nodes, at, rest, draws, seed)


def _outer(chart: Chart, normal: FullRankNormal) -> tuple[torch.Tensor, torch.Tensor]:
    """Scalar sites (G,) along whose sds the curvature of the density changes, at most MOST, and how much, the largest
    change first."""
    sizes = [shape.numel() for shape in chart.density.shapes]
    starts = itertools.accumulate(sizes[:-1], initial=0)
    scalars = [start for start, size in zip(starts, sizes, strict=True) if size == 1]
    at = torch.tensor(scalars, dtype=torch.long, device=normal.mean.device)
    if not scalars or len(scalars) > CANDIDATES:
        return at[:0], normal.mean[:0]
    ways = normal.covariance[at] / normal.sd[at][:, None]  # the other latents move along, as the normal has them
    F = normal.factor
    up, down = (F.T @ chart.hessians(normal.mean + side * ways) @ F for side in (1, -1))
    changes = (up - down).flatten(1).norm(dim=1).nan_to_num(nan=0.0, posinf=0.0)
    largest = changes.argsort(descending=True)[:MOST]
    return at[largest], changes[largest]


def _filled(
    chart: Chart, normal: FullRankNormal, around: FullRankNormal, at: torch.Tensor, rest: torch.Tensor
) -> tuple[_Nodes | None, bool]:
    """(The nodes of the grid from the mean outwards, as far as the density of h is not small; whether these, or those
    that time allows, are all).
    """
    G, step = len(at), STEPS[len(at) - 1]
    eye = torch.eye(G, dtype=torch.long, device=at.device)
    neighbours = torch.cat([eye, -eye])
    cross = normal.covariance[rest][:, at] @ torch.linalg.inv(around.covariance)
    nodes = _at_modes(chart, torch.zeros_like(eye[:1]), normal.mean[None], cross[None], at, rest)
    seen = {(0,) * G}
    new, most = nodes, min(NODES[G - 1], NUMBERS // len(rest) ** 2)
    by, begun = chart.by, 0.0 if chart.by is None else clock(chart.by.device)
    left = math.inf if by is None else TIME * by.left
    while len(new.us) and len(seen) < most:
        top = nodes.densities.max()
        places: list[torch.Tensor] = []
        starts: list[torch.Tensor] = []
        slopes: list[torch.Tensor] = []
        for k in (new.densities > top - DEEP).nonzero()[:, 0].tolist():
            for place in new.places[k] + neighbours:
                if (key := tuple(place.tolist())) not in seen and len(seen) < most:
                    seen.add(key)
                    shift = step * around.factor @ (place - new.places[k]).to(normal.mean)
                    u = new.us[k].clone()
                    u[at], u[rest] = u[at] + shift, u[rest] + new.slopes[k] @ shift
                    places, starts, slopes = [*places, place], [*starts, u], [*slopes, new.slopes[k]]
        spent = 0.0 if by is None else clock(by.device) - begun
        if not places or spent * (1 + len(places) / len(nodes.us)) > left:
            break
        new = _at_modes(chart, torch.stack(places), torch.stack(starts), torch.stack(slopes), at, rest)
        nodes = _Nodes(*(torch.cat(pair) for pair in zip(nodes, new, strict=True)))
    if not len(nodes.us):
        return None, True
    near = nodes.densities > nodes.densities.max() - 2 * DEEP
    return _Nodes(*(part[near] for part in nodes)), len(seen) < most


def _at_modes(
    chart: Chart, places: torch.Tensor, us: torch.Tensor, slopes: torch.Tensor, at: torch.Tensor, rest: torch.Tensor
) -> _Nodes:
    """Nodes with the modes of z given h by Newton's steps from us (K, D); those are left out that have none."""
    us, R = us.clone(), int(rest.sum())
    values, gradients = chart.scores(us)
    factors = us.new_zeros(len(us), R, R)
    slopes, densities = slopes.expand(len(us), -1, -1).clone(), torch.full_like(values, -torch.inf)
    moving = torch.arange(len(us), device=us.device)
    for _ in range(NEWTON):
        H = chart.hessians(us[moving])
        roots, failed = torch.linalg.cholesky_ex(-H[:, rest][:, :, rest])
        good = (failed == 0) & H.isfinite().all(-1).all(-1) & values[moving].isfinite()
        moving, H, roots = moving[good], H[good], roots[good]
        if not len(moving):
            break
        g = gradients[moving][:, rest]
        way = torch.cholesky_solve(g[..., None], roots)[..., 0]
        gain = (way * g).sum(1) / 2
        slopes[moving] = torch.cholesky_solve(H[:, rest][:, :, at], roots)
        eye = torch.eye(R, dtype=us.dtype, device=us.device).expand(len(moving), R, R)
        factors[moving] = torch.linalg.solve_triangular(roots.mT, eye, upper=True)
        log_dets = roots.diagonal(dim1=1, dim2=2).log().sum(1)
        done = gain < RESTS
        us[moving[done][:, None], rest.nonzero()[:, 0]] += way[done]
        densities[moving[done]] = (values[moving] + gain - log_dets)[done]
        moving, way, gain = moving[~done], way[~done], gain[~done]
        if not len(moving):
            break
        moved = _risen(chart, us, values, gradients, moving, way, rest)
        moving = moving[moved]
    known = densities.isfinite()
    return _Nodes(places[known], us[known], densities[known], slopes[known], factors[known])


def _risen(
    chart: Chart,
    us: torch.Tensor,
    values: torch.Tensor,
    gradients: torch.Tensor,
    moving: torch.Tensor,
    way: torch.Tensor,
    rest: torch.Tensor,
) -> torch.Tensor:
    """Moves us[moving] along their ways, or a half, a quarter of them: which of them have risen (m,)."""
    moved = torch.zeros(len(moving), dtype=torch.bool, device=us.device)
    for length in (1.0, 0.5, 0.25, 0.0625):
        left = (~moved).nonzero()[:, 0]
        if not len(left):
            break
        tried = us[moving[left]].clone()
        tried[:, rest] += length * way[left]
        new_values, new_gradients = chart.scores(tried)
        rises = new_values > values[moving[left]]
        to = moving[left][rises]
        us[to], values[to], gradients[to] = tried[rises], new_values[rises], new_gradients[rises]
        moved[left[rises]] = True
    return moved


def _drawn(
    chart: Chart,
    around: FullRankNormal,
    nodes: _Nodes,
    at: torch.Tensor,
    rest: torch.Tensor,
    draws: int,
    seed: int,
) -> Drawn:
    """Draws of h and of z given h, with their weights."""
    noise, step, centres = generator(seed, around.mean), STEPS[len(at) - 1], nodes.us[:, at]
    narrow = (WIDTH * step * around.factor).expand(len(centres), -1, -1)
    shares = (1 - SHARE) * torch.softmax(nodes.densities, 0)
    outer = Mixture(
        torch.cat([centres, around.mean[None]]),
        torch.cat([narrow, WIDE * around.factor[None]]),
        torch.cat([shares, shares.new_full((1,), SHARE)]),
        torch.cat([torch.full_like(shares, NORMAL), shares.new_full((1,), NU)]),
    )
    h = outer.sample(draws, noise)
    grid = step * nodes.places.to(h)
    near = torch.cdist(around.back(h), grid).argmin(1)
    e = torch.randn(draws, int(rest.sum()), generator=noise, dtype=h.dtype, device=h.device)
    us = h.new_empty(draws, len(rest))
    us[:, at] = h
    log_q = outer.log_prob(h) - e.square().sum(1) / 2 - e.shape[1] * math.log(2 * math.pi) / 2
    for k in near.unique().tolist():
        mine = (near == k).nonzero()[:, 0]
        z = nodes.us[k][rest] + (h[mine] - centres[k]) @ nodes.slopes[k].T + e[mine] @ nodes.factors[k].T
        us[mine[:, None], rest.nonzero()[:, 0]] = z
        log_q[mine] -= nodes.factors[k].diagonal().abs().log().sum()
    log_joints = chart.values(us)
    return Drawn(us, log_joints, importance(log_joints - log_q), outer)
