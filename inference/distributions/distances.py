"""How far a belief q is from the posterior p, scalar by scalar, and of Gaussian vectors as a whole.

KL(q || p)       = E_q[log q - log p]                          nats
W2(q, p)^2       = min E|x - y|^2 over all joint laws of x ~ q and y ~ p
                 = |m - m'|^2 + tr(S + S' - 2 (S'^1/2 S S'^1/2)^1/2)     of normals (Givens and Shortt 1984, prop. 7)
total variation  = 1/2 sum_k |q(k) - p(k)|
"""

import math
from typing import Any

import torch
from pyro.distributions import MultivariateStudentT
from torch.distributions import (
    Beta,
    Dirichlet,
    Distribution,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    TransformedDistribution,
    kl_divergence,
)

from .agreement import by_definition
from .summaries import masses
from .unwrap import kind, unwrapped

POINTS, REACH = 801, 9.0  # of the trapezoid rule for a normal, and its ends in sds


def is_point(q: Distribution | None, sd: torch.Tensor) -> bool:
    """Whether q is a point mass. A finite q is none, even if rounding makes one of its values certain."""
    return kind(q) == "Delta" or (q is None and bool((sd == 0).any()))


def kl(q: Distribution | None, p: Any, mean: torch.Tensor, sd: torch.Tensor) -> torch.Tensor:
    """KL(q || p) of each scalar's marginal, nats, shape of the site.

    In closed form where torch knows one, else by the trapezoid rule. Of a q that is known by its mean and sd alone that
    of a normal, if p is one: the KL of any other q with these is larger. NaN elsewhere. Infinite for a point.
    """
    if is_point(q, sd):  # which has no density
        return torch.full(mean.shape, math.inf)
    ours, exact = scalar(q), scalar(p)
    if exact is None:
        return torch.full(mean.shape, math.nan)
    if ours is not None:
        found = _closed_form(ours, exact)
        found = _by_quadrature(ours, exact) if found is None else found
        integrated = by_definition(ours, exact)
        if found is None or (integrated is not None and not torch.allclose(found.double(), integrated, 1e-3, 1e-6)):
            found = integrated  # a registered KL may be wrong
        return torch.full(mean.shape, math.nan) if found is None else found.detach().cpu().expand(mean.shape)
    if isinstance(unwrapped(exact), Normal) and (sd > 0).all():
        return kl_divergence(Normal(mean, sd), Normal(exact.mean.cpu().double(), exact.stddev.cpu().double()))
    return torch.full(mean.shape, math.nan)


def _closed_form(q: Distribution, p: Distribution) -> torch.Tensor | None:
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def wasserstein(p: Any, mean: torch.Tensor, sd: torch.Tensor) -> torch.Tensor | None:
    """W2 of each scalar's marginal, in the units of the site; None unless p is normal.

    sqrt((m - m')^2 + (s - s')^2) for a normal q or a point; for any other it is a lower bound (Gelbrich 1990).
    """
    exact = scalar(p)
    if exact is None or not isinstance(unwrapped(exact), Normal):
        return None
    return torch.hypot(mean - exact.mean.cpu().double(), sd - exact.stddev.cpu().double())


def wasserstein_normals(q: MultivariateNormal, p: MultivariateNormal) -> torch.Tensor:
    """W2 of two Gaussian vectors, shape (): sqrt(|m - m'|^2 + tr(S + S' - 2 (S'^1/2 S S'^1/2)^1/2))."""
    root = _root(p.covariance_matrix)
    both = torch.linalg.eigvalsh(root @ q.covariance_matrix @ root).clamp(min=0).sqrt().sum()
    spread = q.variance.sum() + p.variance.sum() - 2 * both
    return (((q.mean - p.mean) ** 2).sum() + spread).clamp(min=0).sqrt()


def total_variation(q: Distribution | None, p: Any) -> torch.Tensor | None:
    """1/2 sum_k |q(k) - p(k)| of each scalar, shape of the site; None where one of the two is not finite."""
    ours, exact = (None if fn is None else masses(fn) for fn in (q, p))
    if ours is None or exact is None or len(ours) != len(exact):
        return None
    return (ours.cpu() - exact.cpu()).abs().sum(0) / 2


def as_normal(fn: Any) -> MultivariateNormal | None:
    """A site's distribution as one Gaussian vector, in double precision; None if it is none."""
    base = unwrapped(fn)
    if not isinstance(base, (Normal, MultivariateNormal, LowRankMultivariateNormal)):
        return None
    mean, variance = (t.detach().double().cpu().reshape(-1) for t in (fn.mean, fn.variance))
    if not (variance > 0).all():
        return None
    if isinstance(base, Normal):
        return MultivariateNormal(mean, scale_tril=torch.diag(variance.sqrt()))
    rows = base.covariance_matrix.detach().double().cpu().expand(*fn.mean.shape, -1)  # (..., D, D)
    return MultivariateNormal(mean, torch.block_diag(*rows.reshape(-1, *rows.shape[-2:])))


def scalar(fn: Any) -> Any:
    """The marginal distribution of each scalar: no event dimensions, batch shape as the site; None if not known."""
    base: Any = unwrapped(fn)
    if not isinstance(base, Distribution):
        return None
    shape = fn.batch_shape + fn.event_shape
    if base.event_shape == ():
        return base if base.batch_shape == shape else base.expand(shape)
    if isinstance(base, (MultivariateNormal, LowRankMultivariateNormal)):
        return Normal(fn.mean, fn.variance.sqrt())
    if isinstance(base, Dirichlet):
        a = base.concentration.expand(shape)
        return Beta(a, a.sum(-1, keepdim=True) - a)
    if isinstance(base, MultivariateStudentT):
        scale = base.scale_tril.pow(2).sum(-1).sqrt()
        return StudentT(base.df[..., None].expand(shape), base.loc.expand(shape), scale.expand(shape))
    if isinstance(base, MixtureSameFamily):
        parts = scalar(base.component_distribution)  # (..., K, D)
        if isinstance(parts, Normal) and len(base.event_shape) == 1:
            each = Normal(parts.loc.transpose(-1, -2), parts.scale.transpose(-1, -2))
            weights = type(base.mixture_distribution)(logits=base.mixture_distribution.logits[..., None, :])
            return MixtureSameFamily(weights.expand(each.batch_shape[:-1]), each)
    return None


def _by_quadrature(q: Distribution, p: Distribution) -> torch.Tensor | None:
    """KL(q || p) for q a normal, or one seen through transforms; None for others. Infinite off the support of p."""
    base, transforms = q, []
    if isinstance(q, TransformedDistribution):
        base, transforms = unwrapped(q.base_dist), q.transforms
    if not isinstance(base, Normal) or p.event_shape != ():
        return None
    u = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64).reshape(-1, *[1] * len(q.batch_shape))
    weight = Normal(u.new_zeros(()), 1.0).log_prob(u).exp() * (2 * REACH / (POINTS - 1))
    x = (base.loc.cpu().double() + base.scale.cpu().double() * u).detach()
    log_q = Normal(base.loc.detach().cpu().double(), base.scale.detach().cpu().double()).log_prob(x)
    for transform in transforms:
        if not transform.bijective:  # as of a half-normal
            return None
        y = transform(x)
        log_q = log_q - transform.log_abs_det_jacobian(x, y)
        x = y
    if not p.support.check(x).all():  # type: ignore[union-attr]
        return torch.full(q.batch_shape, math.inf)
    return (weight * (log_q - p.log_prob(x).cpu())).sum(0).detach()


def _root(matrix: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: torch.Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.mT
    return root
