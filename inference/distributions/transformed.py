"""Transformed distributions with mean and variance, which torch lacks: of a bijection of a normal or of a gamma."""

from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import Transform
from torch.distributions.transforms import AffineTransform, ExpTransform, PowerTransform, ReshapeTransform


class Transformed(dist.TransformedDistribution):
    """T(u) of a normal u (or of a multivariate one, entry by entry), or a + b u of any u, with mean and variance."""

    def __init__(self, base: Any, transform: Transform) -> None:
        self.pushed = transform
        super().__init__(base, [transform])

    @property
    def mean(self) -> torch.Tensor:
        return _moments(self.base_dist, self.pushed)[0]

    @property
    def variance(self) -> torch.Tensor:
        return _moments(self.base_dist, self.pushed)[1]


def _moments(base: Any, transform: Transform) -> tuple[torch.Tensor, torch.Tensor]:
    mean, variance = base.mean, base.variance
    if isinstance(transform, AffineTransform):
        return transform.loc + transform.scale * mean, transform.scale**2 * variance
    if isinstance(transform, ReshapeTransform):
        return transform(mean), transform(variance)
    if isinstance(transform, ExpTransform):
        first = (mean + variance / 2).exp()
        return first, first**2 * torch.expm1(variance)
    # The trapezoid rule converges faster than any power of its step where the integrand is analytic.
    step = torch.linspace(-12, 12, 4001, dtype=mean.dtype, device=mean.device).reshape(-1, *[1] * mean.dim())
    weight = torch.softmax(-0.5 * step**2, 0)
    z = transform(mean + variance.sqrt() * step)
    first = (weight * z).sum(0)
    return first, (weight * (z - first) ** 2).sum(0)


class GammaPower(dist.TransformedDistribution):
    """z with z^power ~ Gamma(concentration, rate): a standard deviation, where z^-2 is a precision."""

    def __init__(self, concentration: torch.Tensor, rate: torch.Tensor, power: float) -> None:
        self.power = power
        super().__init__(dist.Gamma(concentration, rate), [PowerTransform(torch.as_tensor(1.0 / power))])

    @property
    def concentration(self) -> torch.Tensor:
        return self.base_dist.concentration

    @property
    def rate(self) -> torch.Tensor:
        return self.base_dist.rate

    def _moment(self, k: int) -> torch.Tensor:
        """E[z^k], infinite where the gamma has too much mass at zero."""
        a, b, power = self.base_dist.concentration, self.base_dist.rate, k / self.power
        there = a + power > 0
        log = torch.lgamma(torch.where(there, a + power, 1.0)) - torch.lgamma(a) - power * b.log()
        return torch.where(there, log.exp(), torch.inf)

    @property
    def mean(self) -> torch.Tensor:
        return self._moment(1)

    @property
    def variance(self) -> torch.Tensor:
        return self._moment(2) - self._moment(1) ** 2
