"""Families of normals that do not hold every covariance, each with a start beside a dense normal near the posterior.

    mean field    u = mu + s e               of a posterior N(m, P^-1): mu = m, s_i = 1 / sqrt(P_ii), the exact optimum
    few factors   u = mu + s (e + W z)       Sigma = S (I + W W^T) S, S = diag(s), as in AutoLowRankMultivariateNormal
                                             e ~ N(0, I_D), z ~ N(0, I_R), W (D, R)

With S P S = V diag(p) V^T for the scales of mean field, W starts with a column for each of the R least p, the widest
directions: v_r sqrt(1 / p_r - 1). Factors only ever widen: narrow directions are left to s. Means and factors are moved
in the whitened coordinates of the dense normal, in which the posterior has no narrow valley: where latents are
correlated, the means of independent normals move together by steps that are many of their sds long.
"""

import torch

from .fixed_draws import Family
from .full_rank_normal import FullRankNormal
from .low_rank_normal import LowRankNormal

NARROWEST = -4.0  # the least log s beside its start: where a factor holds a latent alone, s is anything
LEAST = 0.01  # variance of a factor at the start: at 0 the ELBO has a saddle


def mean_field(near: FullRankNormal) -> Family:
    """Independent normals, started at the best ones for a posterior that is `near`."""
    D, F = len(near.mean), near.factor
    log_scale = -torch.linalg.inv(F).norm(dim=0).log()  # the diagonal of the precision F^-T F^-1, to the power -1/2
    none = F.new_zeros(D, 0)

    def parts(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return near.mean + F @ theta[:D], log_scale + theta[D:] / 2**0.5

    def at(theta: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        mean, logs = parts(theta)
        return mean + logs.exp() * e

    def log_det(theta: torch.Tensor) -> torch.Tensor:
        return parts(theta)[1].sum()

    def normal(theta: torch.Tensor) -> LowRankNormal:
        mean, logs = parts(theta)
        return LowRankNormal(mean, logs.exp(), none, none[0])

    return Family(F.new_zeros(2 * D), D, at, log_det, normal)


def few_factors(near: FullRankNormal, rank: int) -> Family:
    """Normals of `rank` factors, started at a good one for a posterior that is `near`.

    The factors are moved in the whitened coordinates of the dense normal, as the means are: S W = F x.
    """
    D, F = len(near.mean), near.factor
    roots = torch.linalg.inv(F)  # precision P = roots^T roots
    log_scale = -roots.norm(dim=0).log()
    _, sizes, ways = torch.linalg.svd(roots * log_scale.exp(), full_matrices=False)  # the widest directions come last
    wide = (1 / sizes.square() - 1).clamp(min=LEAST)[-rank:]
    SW = log_scale.exp()[:, None] * ways[-rank:].T * wide.sqrt()
    if rank > D:
        SW = torch.cat([SW, LEAST**0.5 * log_scale.exp()[:, None].expand(D, rank - D)], 1)

    def parts(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        shift, logs, x = theta.split([D, D, D * rank])
        return near.mean + F @ shift, log_scale + (logs / 2**0.5).clamp(min=NARROWEST), F @ x.reshape(D, rank)

    def at(theta: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        mean, logs, SW = parts(theta)
        return mean + e[:, :D] * logs.exp() + e[:, D:] @ SW.T

    def log_det(theta: torch.Tensor) -> torch.Tensor:
        _, logs, SW = parts(theta)
        W = SW / logs.exp()[:, None]
        inner = torch.eye(rank, dtype=W.dtype, device=W.device) + W.T @ W
        return logs.sum() + torch.linalg.slogdet(inner).logabsdet / 2

    def normal(theta: torch.Tensor) -> LowRankNormal:
        mean, logs, SW = parts(theta)
        Q, sizes, _ = torch.linalg.svd(SW / logs.exp()[:, None], full_matrices=False)
        return LowRankNormal(mean, logs.exp(), Q, sizes.square())

    start = torch.cat([F.new_zeros(2 * D), (roots @ SW).flatten()])
    return Family(start, D + rank, at, log_det, normal)
