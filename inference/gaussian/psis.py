"""Importance weights of the draws of an approximation, smoothed in their tail, and what the tail says: Pareto k-hat.

    w_s = p(data, u_s) / q(u_s),   u_s ~ q;   the largest M = min(S / 5, 3 sqrt(S)) weights follow a generalised Pareto
    distribution of shape k, and are replaced by its quantiles

The shape k tells how many moments the weights have: below 1/2 their variance is finite. Estimates by importance
sampling can be trusted for k < min(1 - 1 / log10(S), 0.7); above, q misses mass of p in its tails, and no number of
draws mends that. Source: Vehtari, Simpson, Gelman, Yao and Gabry 2024; Zhang and Stephens 2009 for the fit of
the distribution.
"""

import math
from typing import NamedTuple

import torch

FEWEST = 5  # weights in the tail that the fit needs
PRIOR = 10  # weights that the prior of k, centred at 1/2, is worth
GOOD = 0.7  # the largest k at which estimates can be trusted with any number of draws
EVEN = 0.9  # effective share of the draws at which weights are so even that the shape of their tail means nothing


class Importance(NamedTuple):
    """Smoothed importance weights w_s = p(data, z_s) / q(z_s) of S draws and what they tell: `fit.importance`.

    log_weights: shape (S,), normalised: their exponentials add up to 1. k_hat: the shape of their tail, infinite where
    it cannot be fitted. ess: effective sample size, 1 / sum of the squared weights. log_evidence: log p(data), nats.
    log_evidence_error: its standard error, nats; it means little where k_hat is above the limit.
    """

    log_weights: torch.Tensor
    k_hat: float
    ess: float
    log_evidence: float
    log_evidence_error: float

    @property
    def limit(self) -> float:
        """The largest k_hat at which estimates from so many draws can be trusted."""
        return min(1 - 1 / math.log10(max(len(self.log_weights), 11)), GOOD)

    @property
    def reliable(self) -> bool:
        """Whether estimates by these weights can be trusted."""
        return self.k_hat < self.limit or self._even

    def leaves(self, share: float) -> bool:
        """Whether estimates can be trusted, and the draws are worth more than this share of them."""
        return self.reliable and self.ess > share * len(self.log_weights)

    @property
    def words(self) -> str:
        """k-hat; of even weights, whose tail has no shape to speak of, the share of the draws that they are worth."""
        return (
            f"even weights, {self.ess / len(self.log_weights):.0%} effective"
            if self._even
            else f"k-hat {self.k_hat:.2f}"
        )

    @property
    def _even(self) -> bool:
        return self.ess > EVEN * len(self.log_weights)


def importance(log_ratios: torch.Tensor) -> Importance:
    """The smoothed weights of log p(data, u_s) - log q(u_s), nats (S,). A ratio of -inf or NaN is a weight of zero.

    The standard error of the log evidence is the coefficient of variation of the mean weight, by the delta method.
    """
    n = len(log_ratios)
    ratios = log_ratios.double().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if not n or not ratios.max().isfinite():
        uniform = torch.full((n,), -math.log(max(n, 1)), dtype=torch.float64)
        return Importance(uniform, math.inf, 0.0, math.nan, math.inf)
    smoothed, k_hat = _smoothed(ratios)
    total = smoothed.logsumexp(0)
    weights = (smoothed - total).exp()
    ess = 1 / weights.square().sum().item()
    error = math.sqrt(max(0.0, 1 / ess - 1 / n))
    return Importance(smoothed - total, k_hat, ess, total.item() - math.log(n), error)


def weighted_moments(log_weights: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean (D,), sd (D,)) of p by draws u (S, D) of q and their normalised log weights (S,)."""
    weights = log_weights.exp().to(u.dtype)
    mean = weights @ u
    return mean, (weights @ (u - mean).square()).sqrt()


def _smoothed(ratios: torch.Tensor) -> tuple[torch.Tensor, float]:
    """(log ratios with their tail smoothed, k-hat). Equal ratios stay as they are and have k-hat -inf."""
    n = len(ratios)
    size = math.ceil(min(n / 5, 3 * math.sqrt(n)))
    order = ratios.argsort()
    top = ratios[order[-1]]
    cutoff, tail = ratios[order[-size - 1]] if n > size else -torch.inf, ratios[order[-size:]]
    if size < FEWEST:
        return ratios, math.inf
    if not tail[0].isfinite():
        return ratios, math.inf
    if top - cutoff < 1e-10 * max(1.0, abs(top.item())):
        return ratios, -math.inf
    above = (tail - top).exp() - (cutoff - top).exp()
    k, sigma = generalised_pareto(above.clamp(min=1e-300))
    shares = (torch.arange(size, dtype=torch.float64, device=ratios.device) + 0.5) / size
    quantiles = sigma * torch.special.expm1(-k * torch.log1p(-shares)) / k if abs(k) > 1e-12 else None
    if quantiles is None:
        quantiles = -sigma * torch.log1p(-shares)
    smoothed = ratios.clone()
    smoothed[order[-size:]] = ((quantiles + (cutoff - top).exp()).log() + top).clamp(max=top)
    return smoothed, k


def generalised_pareto(x: torch.Tensor) -> tuple[float, float]:
    """(k, sigma) of the density (1 + k x / sigma)^(-1 / k - 1) / sigma, for sorted x > 0 (M,).

    k is the posterior mean of Zhang and Stephens, shrunk towards 1/2 by a prior worth ten values.
    """
    n = len(x)
    grid = 30 + int(math.sqrt(n))
    j = torch.arange(1, grid + 1, dtype=torch.float64, device=x.device)
    quarter = x[max(int(n / 4 + 0.5) - 1, 0)]
    b = (1 - (grid / (j - 0.5)).sqrt()) / (3 * quarter) + 1 / x[-1]
    k = torch.log1p(-b[:, None] * x).mean(1)
    likelihood = n * ((-b / k).log() - k - 1)
    weights = (likelihood - likelihood.max()).softmax(0)
    mean = (weights * b).sum()
    shape = torch.log1p(-mean * x).mean()
    sigma = (-shape / mean).item()
    return (n * shape.item() + PRIOR * 0.5) / (n + PRIOR), sigma
