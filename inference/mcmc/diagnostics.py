"""Whether chains have mixed, and how much their draws know: R-hat, effective sample sizes, Monte Carlo errors.

    R-hat = sqrt(var+ / W)          var+ = (N-1)/N W + B/N, B between chains, W within; chains split in halves
    ESS   = C N / (-1 + 2 sum_t (rho_2t + rho_2t+1))        C chains of N draws, rho the autocorrelations

of the ranks of the draws, turned into normals: right for heavy tails and any scale (Vehtari, Gelman, Simpson, Carpenter
and Bürkner 2021, "Rank-normalization, folding, and localization: an improved R-hat", eq. 3-4, 10, 14 and section 4).
"""

import math
from typing import NamedTuple

import torch
from pyro.ops.stats import autocovariance

AT_ONCE = 2**22  # numbers in a table of draws


class Mixing(NamedTuple):
    """Of one site, each of the site's shape, in double precision.

    rhat: the larger of R-hat of ranks and of ranks of |x - median| (chains that differ in scale alone). ess: of the
    bulk; tail: the smaller one of the 5 % and 95 % quantiles. mean_error, sd_error: Monte Carlo errors of the mean and
    of the sd of the draws, in the units of the site.
    """

    rhat: torch.Tensor
    ess: torch.Tensor
    tail: torch.Tensor
    mean_error: torch.Tensor
    sd_error: torch.Tensor


def mixing(draws: torch.Tensor) -> Mixing:
    """draws: shape (chains, N, *shape of the site), N of at least 4."""
    flat = draws.reshape(*draws.shape[:2], -1).double()
    width = max(1, AT_ONCE // (flat.shape[0] * flat.shape[1]))
    parts = [_mixing(part) for part in flat.split(width, dim=2)]
    return Mixing(*(torch.cat(column).reshape(draws.shape[2:]) for column in zip(*parts, strict=True)))


def _mixing(x: torch.Tensor) -> Mixing:
    x = _halves(x)  # (2 C, N / 2, D)
    pooled = x.flatten(0, 1)
    z = _normalised(x)
    low, median, high = (_quantile(pooled, q) for q in (0.05, 0.5, 0.95))
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
    """The normal quantiles of the ranks among all chains, ties sharing their mean rank (eq. 14)."""
    flat = x.flatten(0, 1).T.contiguous()  # (D, draws)
    ordered = flat.sort(-1).values
    ranks = (torch.searchsorted(ordered, flat) + torch.searchsorted(ordered, flat, right=True) + 1) / 2
    normal = torch.special.ndtri((ranks.double() - 3 / 8) / (flat.shape[1] + 1 / 4))
    return normal.T.reshape(x.shape)


def _rhat(x: torch.Tensor) -> torch.Tensor:
    """1 where nothing ever changes (a finite site that is sure), infinite where only the chains differ."""
    within, both = _variances(x)
    ratio = (both / within).sqrt()
    return torch.where(within > 0, ratio, torch.where(both > 0, math.inf, 1.0))


def _ess(x: torch.Tensor) -> torch.Tensor:
    """By Geyer's initial monotone sequence; at most C N log10(C N), and C N where nothing ever changes."""
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
    """(W, var+): within the chains, and what between them adds to it (eq. 1-3)."""
    n = x.shape[1]
    within = x.var(1).mean(0)
    return within, within * (n - 1) / n + x.mean(1).var(0)


def _quantile(x: torch.Tensor, q: float) -> torch.Tensor:
    return x.sort(0).values[round(q * (len(x) - 1))]
