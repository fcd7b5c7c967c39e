"""The normal with few directions beside a diagonal, for more latents than a dense covariance is for.

    q(u) = N(mu, Sigma),   Sigma^-1 = C^(1/2) (I + Q diag(m) Q^T) C^(1/2)
    L-BFGS  ->  curvature at its end  ->  mu <- mu + Sigma E_q[g],  Sigma^-1 <- -E_q[d^2 log p / du^2] along Q

The steps are natural gradients of the ELBO (Khan and Rue 2023, eq. 12) within the family; the second derivative is
taken along the directions, by differences of gradients at draws of q. A posterior that is normal in this family is
found to the precision of the differences. Source: Modi, Cai and Saul 2024 (arXiv:2410.22292) for the family.
"""

import math
from typing import NamedTuple

import torch

from .curvature import NUMBERS, Curvature, Products, curvature, projected, turned
from .few_pairs import climb
from .full_rank import Weighed, weights_of
from .full_rank_normal import Counted, Scores, generator, standard
from .low_rank_normal import LowRankNormal

DRAWS = 400
PAIRS, MOST = 16, 128  # antithetic pairs of draws in an iteration; they are doubled while their noise is too large
CLIMBS, AT_REST = 4, 1e-3  # ascents, each with the curvature before; expected gain of a further one, nats
ITERATIONS = 12
EACH, VECTORS = 8, 4000  # antithetic pairs at which the second derivative is taken; vectors times draws of an iteration
ERROR = 0.02  # of a mean in sds, by the noise of the draws
REACH = 1.0  # sds that a mean moves in one step at most
LEFT = 0.1  # of the precision, relative to its diagonal, in no direction
STAYS = 0.03  # root mean square of a step, in sds, at which the mean stays where it is


class LowRank(NamedTuple):
    """The normal that was found, and how good it is."""

    normal: LowRankNormal
    rank: int  # of the directions
    left: float  # root mean square of the precision that is in no direction, relative to the diagonal
    converged: bool  # whether the mean stays where it is, and few directions hold the precision
    error: float  # the standard error of a mean, in sds, that the noise of the draws leaves
    gradients: int
    weighed: Weighed  # by draws of the normal


def low_rank(
    scores: Scores, starts: torch.Tensor, *, draws: int = DRAWS, numbers: int = NUMBERS, seed: int = 0
) -> LowRank:
    """The normal of low rank, from starting points (K, D).

    scores: us (n, D) -> (log p(data, u) in nats, gradients). draws: whose importance weights are computed.
    numbers: in the directions, at most: their rank is numbers / D. converged is False where they leave much of the
    precision, so that sds are too small or too large.
    """
    counted, noise = Counted(scores), generator(seed, starts)
    ends = climb(counted, starts)
    best = int(ends.values.nan_to_num(nan=-math.inf).argmax())
    mean, diagonal = ends.us[best], 1 / ends.diagonals[best]
    for _ in range(CLIMBS):
        found = curvature(_products(counted, mean[None]), diagonal, noise, numbers=numbers)
        normal = _normal(mean, found)
        if normal.whitened(counted(mean[None])[1]).square().sum() / 2 < AT_REST:
            break
        mean, diagonal = _higher(counted, normal), found.diagonal
    pairs, error, stays = PAIRS, math.inf, False
    for t in range(ITERATIONS):
        e = standard(pairs, normal, noise)
        slope, error = _slope(counted, normal, e)
        if slope is None:
            normal = normal._replace(scale=normal.scale / 2)
            continue
        stays = math.sqrt(max(0.0, slope.square().mean().item() - error**2)) < STAYS
        mean = _moved(normal, slope)
        if stays and error < ERROR and t:
            normal = normal._replace(mean=mean)
            break
        if found.directions.shape[1]:
            n = max(1, min(EACH, VECTORS // (2 * found.directions.shape[1])))
            points = normal._replace(mean=mean).at(torch.cat([e[:n], -e[:n]]))
            found = turned(found, projected(_products(counted, points), found))
        normal = _normal(mean, found)
        pairs = min(2 * pairs, MOST) if stays or error > ERROR else pairs
    weighed = weights_of(counted, normal, draws, seed + 1)
    return LowRank(
        normal, found.directions.shape[1], found.left, stays and found.left < LEFT, error, counted.points, weighed
    )


def _higher(scores: Scores, normal: LowRankNormal) -> torch.Tensor:
    """The end of an ascent in whitened coordinates, where latents of any units are climbed together."""

    def whitened(es: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, gradients = scores(normal.at(es))
        return values, normal.whitened(gradients)

    return normal.at(climb(whitened, torch.zeros_like(normal.mean)[None]).us)[0]


def _slope(scores: Scores, normal: LowRankNormal, e: torch.Tensor) -> tuple[torch.Tensor | None, float]:
    """(E_q[h] (D,) in whitened coordinates from antithetic draws, None if too few have a density; its standard error,
    the root mean square over the coordinates).
    """
    _, gradients = scores(normal.at(torch.cat([e, -e])))
    h = normal.whitened(gradients).unflatten(0, (2, len(e))).mean(0)
    h = h[h.isfinite().all(-1)]
    if len(h) < max(2, len(e) // 2):
        return None, math.inf
    return h.mean(0), math.sqrt(h.var(0).mean().item() / len(h))


def _moved(normal: LowRankNormal, slope: torch.Tensor) -> torch.Tensor:
    """mu + Sigma E_q[g], at most REACH sds in each coordinate."""
    shift = normal.at(slope[None])[0] - normal.mean
    return normal.mean + shift * min(1.0, REACH / max((shift / normal.sd).abs().max().item(), 1e-300))


def _products(scores: Scores, points: torch.Tensor) -> Products:
    """v (n, D) -> -E[d^2 log p / du^2] v, the mean over the points (K, D), by differences of gradients."""
    reach = 1e-2 if points.dtype == torch.float32 else 1e-4

    def products(vectors: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(vectors)
        for point in points:
            _, gradients = scores(torch.cat([point + reach * vectors, point - reach * vectors]))
            up, down = gradients.nan_to_num(nan=0.0).chunk(2)
            total = total + (down - up) / (2 * reach)
        return total / len(points)

    return products


def _normal(mean: torch.Tensor, found: Curvature) -> LowRankNormal:
    return LowRankNormal(mean, found.diagonal.rsqrt(), found.directions, -found.stretch / (1 + found.stretch))
