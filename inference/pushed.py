"""Distributions with moments that torch leaves out: of a bijection of a normal or a gamma, and of finite values."""

from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import Transform, constraints
from torch.distributions.transforms import AffineTransform, ExpTransform, PowerTransform, ReshapeTransform


class Pushed(dist.TransformedDistribution):
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


class Finite(dist.Categorical):
    """These values with these probabilities: probs (*batch, K), values (K,)."""

    def __init__(self, values: torch.Tensor, probs: torch.Tensor) -> None:
        self.values = values
        super().__init__(probs=probs)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.real

    def _indices(self, value: torch.Tensor) -> torch.Tensor:
        return (value.unsqueeze(-1) == self.values).to(torch.int64).argmax(-1)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        inside = (value.unsqueeze(-1) == self.values).any(-1)
        return torch.where(inside, super().log_prob(self._indices(value)), -torch.inf)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self.values[super().sample(torch.Size(sample_shape))]

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        values = self.values.reshape(-1, *[1] * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values

    @property
    def mean(self) -> torch.Tensor:
        return (self.probs * self.values).sum(-1)

    @property
    def variance(self) -> torch.Tensor:
        return (self.probs * (self.values - self.mean.unsqueeze(-1)) ** 2).sum(-1)
