"""Where a Gaussian approximation starts: the best of many normals along several ascents (multi-path Pathfinder).

    q_k = N(u_k + B_k g_k, B_k) at every point u_k of an ascent,   the start: the q_k of the largest ELBO

B_k is the inverse Hessian of the ascent, or its approximation. The mode is often no good centre: the density of a
hierarchy can have a spike at scale zero, where the ascent goes and no mass is. Source: Zhang, Carpenter, Gelman and
Vehtari 2022; with Newton's steps or dense BFGS in the place of L-BFGS.
"""

from typing import Any, NamedTuple

import torch

from .ascent import Front, Hessians, ascend
from .full_rank_normal import Counted, FullRankNormal, Scores, generator

DRAWS = 8  # of each normal on the way, for its ELBO
FINAL = 64  # of the best ones of each path
SMALL, SPARSE = 200, 8  # latents up to which every normal on a path is tried; `fewer` from which every tenth is
ROUNDED = 1e3  # times the rounding of a latent, that its sd given the others must exceed
LONGEST = 400  # steps of the ascents
STALE = 40  # steps without a better ELBO on any path, after which the ascents end


class Path(NamedTuple):
    """The best normal along one ascent."""

    normal: Any  # dense, or with groups
    elbo: float  # nats, from 64 draws; -inf where no normal of the path has draws of finite density
    end: torch.Tensor  # (D,), where the ascent ended
    gradients: int  # taken by all paths together


def pathfinder(
    scores: Scores,
    starts: torch.Tensor,
    hessians: Hessians | None = None,
    *,
    values: Scores | None = None,
    fewer: int = 1,
    seed: int = 0,
) -> list[Path]:
    """The best normal on each path from the starting points (K, D), the path of the largest ELBO first.

    scores: of us (n, D). hessians: of us (K, D), where they are cheap; None: BFGS does without.
    values: the scores without gradients, where they are cheaper.
    fewer: how many times fewer draws must do, where gradients are dear; from SPARSE on, every tenth normal is tried.
    """
    noise, (K, D) = generator(seed, starts), starts.shape
    counted, valued = Counted(scores), Counted(values or scores)
    best = torch.full((K,), -torch.inf, dtype=starts.dtype, device=starts.device)
    found: list[FullRankNormal | None] = [None] * K
    limit, every, improved = min(50 + 4 * D, LONGEST), 1 if D <= SMALL and fewer < SPARSE else 10, 0
    for step, front in enumerate(ascend(counted, starts, hessians)):
        if step % every and front.moving.any():
            continue
        normals = _normals(front)
        elbos = _elbos(valued, normals, DRAWS // fewer, noise)
        for k in (elbos > best).nonzero()[:, 0].tolist():
            if not representable(normals[k].mean, normals[k].sd, torch.linalg.inv(normals[k].factor).norm(dim=0)):
                continue
            best[k], found[k], improved = elbos[k], normals[k], step
        if step - improved > STALE + every or step > limit:
            break
    known = [(normal, end) for normal, end in zip(found, front.us, strict=True) if normal is not None]
    if not known:
        eye = torch.eye(D, dtype=starts.dtype, device=starts.device)
        known = [(FullRankNormal(start, eye), start) for start in starts]
    elbos = _elbos(valued, [normal for normal, _ in known], FINAL // fewer, noise)
    used = counted.points + valued.points
    paths = [Path(n, e, end, used) for (n, end), e in zip(known, elbos.tolist(), strict=True)]
    return sorted(paths, key=lambda path: -path.elbo)


def representable(mean: torch.Tensor, sd: torch.Tensor, roots: torch.Tensor) -> bool:
    """Whether draws of a normal differ by more than rounding. roots: of the diagonal of the precision (D,).

    Near the spike of a hierarchy the sds given the other latents go to zero: there differences between latents are
    rounded to nothing, and the density is any number.
    """
    smallest = ROUNDED * torch.finfo(mean.dtype).eps * (mean.abs() + sd)
    return bool((roots * smallest < 1).all())


def _normals(front: Front) -> list[FullRankNormal]:
    """N(u + B g, B) at each point; the factor is zero where B has none."""
    factors, failed = torch.linalg.cholesky_ex((front.inverses + front.inverses.mT) / 2)
    factors = torch.where((failed == 0)[:, None, None], factors, torch.zeros_like(factors))
    means = front.us + torch.einsum("kij,kj->ki", front.inverses, front.gradients)
    return [FullRankNormal(mean, factor) for mean, factor in zip(means, factors, strict=True)]


def _elbos(scores: Scores, normals: list[FullRankNormal], n: int, noise: torch.Generator) -> torch.Tensor:
    """E_q[log p - log q] of each normal in nats (K,), from n draws that they share; -inf where it is not finite."""
    like = normals[0].mean
    e = torch.randn(n, len(like), generator=noise, dtype=like.dtype, device=like.device)
    values = scores(torch.cat([normal.at(e) for normal in normals]))[0].reshape(len(normals), n)
    entropies = torch.stack([-normal.log_prob_at(e).mean() for normal in normals])
    return (values.mean(1) + entropies).nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)
