"""Batch and match: the normal whose scores match those of the posterior at a batch of its own draws.

    draw u_1, ..., u_B ~ N(mu, Sigma),   g_b = d log p(data, u_b) / du
    minimise over (mu, Sigma):   mean_b |Sigma^-1 (u_b - mu) + g_b|^2_Sigma + 2 / lambda KL(N_t || N(mu, Sigma))

This has a closed form and no learning rate; a posterior that is normal is found to rounding error. The equations are
written in whitened coordinates (see `full_rank_normal.py`), so that units and correlations cannot cost digits, and a
step costs O(D^2 B). Source: Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei and Saul 2024
(arXiv:2402.14758), with their learning rate lambda_t = B D / t and their Sigma = 2 V (I + (I + 4 U V)^(1/2))^-1.
"""

import math
from typing import NamedTuple

import torch

from .full_rank_normal import FullRankNormal, Scores, generator, standard

FIRST, EVERY = 20, 10  # iterations before the first comparison of averages, and between two
RESTS = 0.1  # difference of two averages, of a mean in sds or of a log sd, at which the iterates stay where they are
EXACT = 1e-8  # residual, in whitened coordinates, of a posterior that is normal
SHRINK = 0.5  # of all sds, where fewer than half of the draws have a density


class Matched(NamedTuple):
    """Where batch and match ended."""

    normal: FullRankNormal
    residual: float  # root mean square of h + e in whitened coordinates: 0 where the posterior is normal
    iterations: int
    gradients: int
    settled: bool  # whether the iterates stayed where they are, or match the posterior exactly


def batch_and_match(
    scores: Scores, start: FullRankNormal, *, batch: int = 32, iterations: int = 300, seed: int = 0
) -> Matched:
    """The normal of batch and match, from `start`; at most so many iterations of `batch` gradients each.

    scores: of us (n, D); draws with a value or gradient that is not finite are left out.
    It ends when the iterates stay where they are: the averages of the third and the last quarter of them agree in every
    mean to a tenth of an sd, and in every log sd to a tenth, and ten iterations no longer halve the residual. A
    posterior that is no normal keeps a residual, and iterates then move around the answer by the noise of their
    batches; `natural_gradient.py` averages it out.
    """
    normal, noise, used, residual = start, generator(seed, start.mean), 0, math.inf
    lasts: list[float] = [math.inf]  # the residual of every tenth iteration
    path: list[tuple[torch.Tensor, torch.Tensor]] = []  # (mean, log sds) of each iterate
    for t in range(1, iterations + 1):
        e = standard(batch, normal, noise)
        values, gradients = scores(normal.at(e))
        used += batch
        good = values.isfinite() & gradients.isfinite().all(-1)
        if good.sum() < max(2, batch // 2):
            normal, path = normal._replace(factor=SHRINK * normal.factor), []
            continue
        e, h = e[good], gradients[good] @ normal.factor
        residual = (h + e).square().mean().sqrt().item()
        path.append((normal.mean, normal.sd.log()))
        falls = residual < lasts[-1] / 2
        lasts = [*lasts, residual] if t % EVERY == 0 else lasts
        if residual <= EXACT or (t % EVERY == 0 and not falls and _rests(path)):
            return Matched(normal, residual, t, used, True)
        normal = normal.moved(*_matched(e, h, batch * len(normal.mean) / t))
    return Matched(normal, residual, iterations, used, False)


def _matched(e: torch.Tensor, h: torch.Tensor, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean (D,), factor (D, D)) of the next normal, in coordinates where the present one is standard.

    With V = I + E E^T and U = H H^T, both of low rank, and V^(1/2) H = A s B^T: Sigma = K K^T with
    K = V^(1/2) (I - A (1 - (2 / (1 + (1 + 4 s^2)^(1/2)))^(1/2)) A^T).
    """
    centre, slope = e.mean(0), h.mean(0)
    spread, shift = math.sqrt(rate / len(e)), math.sqrt(rate / (1 + rate))
    E = torch.cat([spread * (e - centre), shift * centre[None]]).T
    H = torch.cat([spread * (h - slope), shift * slope[None]]).T
    A, s, _ = torch.linalg.svd(E, full_matrices=False)
    root = torch.eye(len(E), dtype=e.dtype, device=e.device) + (A * ((1 + s.square()).sqrt() - 1)) @ A.T
    A, s, _ = torch.linalg.svd(root @ H, full_matrices=False)
    smaller = 1 - (2 / (1 + (1 + 4 * s.square()).sqrt())).sqrt()
    K = root - ((root @ A) * smaller) @ A.T
    return rate / (1 + rate) * (K @ (K.T @ slope) + centre), K


def _rests(path: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    """Whether the averages of the third and the last quarter of the iterates agree."""
    if len(path) < FIRST:
        return False
    quarter = len(path) // 4
    means, log_sds = (torch.stack(list(each)) for each in zip(*path[-2 * quarter :], strict=True))
    moved = (means[:quarter].mean(0) - means[quarter:].mean(0)) / log_sds[-1].exp()
    changed = log_sds[:quarter].mean(0) - log_sds[quarter:].mean(0)
    return bool(max(moved.abs().max(), changed.abs().max()) < RESTS)
