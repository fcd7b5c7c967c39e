"""Mixtures of normal and Student distributions of one unconstrained vector: proposals of importance sampling.

    r(u) = sum_k s_k t_nu(u; m_k, F_k F_k^T)      nu = 3: its tails are heavier than those of most posteriors

Fitted to weighted draws by expectation maximisation. Source: Peel and McLachlan 2000, eqs. 16 to 20; Cappé,
Douc, Guillin, Marin and Robert 2008 for weighted draws of an earlier mixture.
"""

import math
from typing import Any, NamedTuple

import torch

from ..gaussian.full_rank_normal import FullRankNormal

NU = 3.0  # degrees of freedom of the Student components
NORMAL = math.inf  # degrees of freedom of a normal
STEPS = 4  # of expectation maximisation
LEAST = 1e-3  # share of a component that is dropped
PRIOR = 2.0  # draws for each latent, that the covariance of all draws is worth in that of a component


class Mixture(NamedTuple):
    """K components, each a normal or a Student distribution."""

    means: torch.Tensor  # (K, D)
    factors: torch.Tensor  # (K, D, D), lower triangular
    shares: torch.Tensor  # (K,), which add up to 1
    nus: torch.Tensor  # (K,), degrees of freedom, infinite for a normal

    def sample(self, n: int, noise: torch.Generator) -> torch.Tensor:
        """u (n, D): each component has its share of the draws, rounded at random."""
        K, D = self.means.shape
        like: Any = {"dtype": self.means.dtype, "device": self.means.device}
        places = (torch.arange(n, **like) + torch.rand(1, generator=noise, **like)) / n
        which = torch.searchsorted(self.shares.cumsum(0), places).clamp(max=K - 1)
        e = torch.randn(n, D, generator=noise, **like)
        nus = self.nus[which]
        chi2 = _chi2(nus.clamp(max=1e6), noise)
        e = e * torch.where(nus.isfinite(), (nus.clamp(max=1e6) / chi2).sqrt(), 1.0)[:, None]
        return self.means[which] + torch.einsum("nij,nj->ni", self.factors[which], e)

    def log_probs(self, us: torch.Tensor) -> torch.Tensor:
        """log s_k + the log density of each component, nats (n, K)."""
        D = self.means.shape[1]
        norms = self._norms(us)
        log_dets = self.factors.diagonal(dim1=1, dim2=2).abs().log().sum(1)
        nu = self.nus.clamp(max=1e6)
        normal = -norms / 2 - D * math.log(2 * math.pi) / 2
        student = (
            torch.lgamma((nu + D) / 2)
            - torch.lgamma(nu / 2)
            - D * (nu * math.pi).log() / 2
            - (nu + D) / 2 * torch.log1p(norms / nu)
        )
        return self.shares.log() + torch.where(self.nus.isfinite(), student, normal) - log_dets

    def log_prob(self, us: torch.Tensor) -> torch.Tensor:
        """log r(u) in nats (n,)."""
        return self.log_probs(us).logsumexp(1)

    def _norms(self, us: torch.Tensor) -> torch.Tensor:
        """The squared distance of each u from each mean, in its own metric (n, K)."""
        away = (us[None] - self.means[:, None]).mT  # (K, D, n)
        return torch.linalg.solve_triangular(self.factors, away, upper=False).square().sum(1).T


def mixture(normals: list[FullRankNormal], shares: list[float], nus: list[float], widths: list[float]) -> Mixture:
    """The mixture of these normals, their sds times `widths`; shares need not add up to 1."""
    factors = torch.stack([width * lower(each.factor) for each, width in zip(normals, widths, strict=True)])
    means = torch.stack([each.mean for each in normals])
    weights = torch.tensor(shares, dtype=means.dtype, device=means.device)
    return Mixture(means, factors, weights / weights.sum(), torch.tensor(nus, dtype=means.dtype, device=means.device))


def lower(factor: torch.Tensor) -> torch.Tensor:
    """The lower triangular L with L L^T = F F^T."""
    return torch.linalg.qr(factor.T).R.T


def fitted(us: torch.Tensor, weights: torch.Tensor, components: int, noise: torch.Generator) -> Mixture:
    """The mixture of Student distributions that fits draws us (n, D) of these weights (n,), which add up to 1.

    Its centres start at draws that are far from each other. The covariance of a component that has few draws leans on
    the covariance of all draws.
    """
    D = us.shape[1]
    mean = weights @ us
    centred = us - mean
    whole = (centred * weights[:, None]).T @ centred
    scale = whole.diagonal().sqrt().clamp(min=1e-300)
    eye = torch.eye(D, dtype=us.dtype, device=us.device)
    L = scale[:, None] * torch.linalg.cholesky(whole / scale / scale[:, None] + 1e-9 * eye)
    e = torch.linalg.solve_triangular(L, centred.T, upper=False).T  # coordinates in which all draws have covariance I
    ess = 1 / weights.square().sum()
    found = _begin(e, weights, components, noise)
    for _ in range(STEPS):
        logs = found.log_probs(e)
        shares = logs.softmax(1) * weights[:, None]  # (n, K)
        pull = (found.nus + D) / (found.nus + found._norms(e))  # of far draws less
        total, pulled = shares.sum(0), shares * pull
        means = (pulled.T @ e) / pulled.sum(0).clamp(min=1e-300)[:, None]
        away = e[:, None] - means  # (n, K, D)
        inner = torch.einsum("nk,nki,nkj->kij", pulled, away, away)
        worth = PRIOR * D / ess  # of the covariance of all draws, in the weight of draws
        covariances = (inner + worth * _spread(total, D)[:, None, None] * eye) / (total + worth)[:, None, None]
        factors, failed = torch.linalg.cholesky_ex(covariances + 1e-9 * eye)
        kept = (total > LEAST) & (failed == 0) & factors.isfinite().all(-1).all(-1)
        if not kept.any():
            break
        found = Mixture(means[kept], factors[kept], total[kept] / total[kept].sum(), found.nus[kept])
    return Mixture(mean + found.means @ L.T, L @ found.factors, found.shares, found.nus)


def _begin(e: torch.Tensor, weights: torch.Tensor, components: int, noise: torch.Generator) -> Mixture:
    """Centres at draws far from each other (k-means++), with covariances that get smaller with their number."""
    D = e.shape[1]
    at = [int(torch.multinomial(weights, 1, generator=noise))]
    for _ in range(components - 1):
        far = torch.stack([(e - e[i]).square().sum(1) for i in at]).amin(0).clamp(max=9.0 * D)
        at.append(int(torch.multinomial(weights * far + 1e-300, 1, generator=noise)))
    K = len(at)
    size = _spread(torch.full((K,), 1 / K, dtype=e.dtype, device=e.device), D).sqrt()
    eye = torch.eye(D, dtype=e.dtype, device=e.device).expand(K, D, D)
    return Mixture(e[at], size[:, None, None] * eye, torch.full_like(size, 1 / K), torch.full_like(size, NU))


def _spread(shares: torch.Tensor, D: int) -> torch.Tensor:
    """The variance, relative to that of all draws, of components that share the volume."""
    return shares.clamp(min=1e-6) ** (2 / D)


def _chi2(nus: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
    """Chi squared noise with these degrees of freedom, from the generator: torch's Gamma takes none."""
    return 2 * torch._standard_gamma(nus / 2, generator=noise)
