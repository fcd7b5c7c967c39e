"""Convergence diagnostics of Markov chains: R-hat, effective sample size (ESS) and Monte Carlo errors.

    R-hat = sqrt(var+ / W)          var+ = (N-1)/N W + B/N, B between chains, W within; chains split in halves
    ESS   = C N / (-1 + 2 sum_t (rho_2t + rho_2t+1))        C chains of N draws, rho the autocorrelations

computed from normal scores of the ranks of the draws, hence valid for heavy tails and any scale (Vehtari, Gelman,
Simpson, Carpenter and Bürkner 2021, "Rank-normalization, folding, and localization: an improved R-hat", eq. 3-4, 10, 14
and section 4).
"""

import math
from typing import NamedTuple

import torch
from pyro.ops.stats import autocovariance

from ..distributions.summaries import quantiles

AT_ONCE = 2**22  # draws times scalars in one batch: bounds the memory


class Mixing(NamedTuple):
    """The diagnostics of one site, each in the shape of the site and in double precision."""

    rhat: torch.Tensor  # the larger R-hat of ranks and of ranks of |x - median|, which sees chains that differ in scale
    ess: torch.Tensor  # of the bulk
    tail: torch.Tensor  # the smaller effective sample size of the 5 % and 95 % quantiles
    mean_error: torch.Tensor  # Monte Carlo error of the mean, in the units of the site
    sd_error: torch.Tensor  # Monte Carlo error of the sd, in the units of the site


def mixing(draws: torch.Tensor) -> Mixing:
    """R-hat, effective sample sizes and Monte Carlo errors. draws: (chains, N, *shape of the site), N at least 4."""
    flat = draws.reshape(*draws.shape[:2], -1).double()
    width = max(1, AT_ONCE // (flat.shape[0] * flat.shape[1]))
    parts = [_mixing(part) for part in flat.split(width, dim=2)]
    return Mixing(*(torch.cat(column).reshape(draws.shape[2:]) for column in zip(*parts, strict=True)))


def _mixing(x: torch.Tensor) -> Mixing:
    x = _halves(x)  # (2 C, N / 2, D)
    pooled = x.flatten(0, 1)
    z = _normalised(x)
    low, median, high = quantiles(pooled, (0.05, 0.5, 0.95))
    square = (x - pooled.mean(0)) ** 2
    sd = square.mean((0, 1)).sqrt()
    count = len(pooled)
    # the delta method: the sd of a mean of squares, over twice the sd
    of_square = (square.flatten(0, 1).var(0) / _ess(square)).sqrt() / (2 * sd)
    return Mixing(
        rhat=torch.maximum(_rhat(z), _rhat(_normalised((x - median).abs()))),
        ess=_ess(z),
        tail=torch.minimum(_ess((x <= low).double()), _ess((x <= high).double())),
        mean_error=torch.where(sd > 0, (pooled.var(0) * (count - 1) / count / _ess(x)).sqrt(), 0.0),
        sd_error=torch.where(sd > 0, of_square, 0.0),
    )


def _halves(x: torch.Tensor) -> torch.Tensor:
    half = x.shape[1] // 2
    return torch.cat([x[:, :half], x[:, -half:]])


def _normalised(x: torch.Tensor) -> torch.Tensor:
    """Normal scores of the ranks among all chains; ties share their mean rank (eq. 14)."""
    flat = x.flatten(0, 1).T.contiguous()  # (D, draws)
    ordered = flat.sort(-1).values
    ranks = (torch.searchsorted(ordered, flat) + torch.searchsorted(ordered, flat, right=True) + 1) / 2
    normal = torch.special.ndtri((ranks.double() - 3 / 8) / (flat.shape[1] + 1 / 4))
    return normal.T.reshape(x.shape)


def _rhat(x: torch.Tensor) -> torch.Tensor:
    """R-hat; 1 where all draws are equal (a finite site that is certain), infinite where only the chains differ."""
    within, both = _variances(x)
    ratio = (both / within).sqrt()
    return torch.where(within > 0, ratio, torch.where(both > 0, math.inf, 1.0))


def _ess(x: torch.Tensor) -> torch.Tensor:
    """ESS by Geyer's initial monotone sequence; at most C N log10(C N), and C N where all draws are equal."""
    chains, n, _ = x.shape
    within, both = _variances(x)
    rho = 1 - (within - autocovariance(x, dim=1).mean(0) * n / (n - 1)) / both  # (N, D), eq. 10
    rho[0] = 1.0
    pairs = rho[: n // 2 * 2].unflatten(0, (n // 2, 2)).sum(1)
    positive = (pairs > 0).cumprod(0)
    monotone = (pairs * positive).cummin(0).values
    tau = (-1 + 2 * monotone.sum(0)).clamp(min=1 / math.log10(chains * n))
    return torch.where(both > 0, chains * n / tau, float(chains * n))


def _variances(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(W, var+): the variance within the chains, and the total variance that includes the one between (eq. 1-3)."""
    n = x.shape[1]
    within = x.var(1).mean(0)
    return within, within * (n - 1) / n + x.mean(1).var(0)
