"""A normal distribution of many latents, kept as its mean, a scale for each, and a few directions that differ.

    u = mu + s (e + Q ((1 + l)^(1/2) - 1) Q^T e),   e ~ N(0, I),   Sigma = S (I + Q diag(l) Q^T) S,   S = diag(s)

The directions Q are orthonormal; along each the variance is 1 + l times that of the scales alone: wider for l > 0, as
in Pyro's AutoLowRankMultivariateNormal (there cov_factor = Q l^(1/2)), or narrower for -1 < l < 0, as where a few rows
of data tell of many latents. The precision has the same form, with 1 / s and -l / (1 + l). Memory and work are O(D R).
"""

import math
from typing import NamedTuple

import torch

from .full_rank_normal import FullRankNormal


class LowRankNormal(NamedTuple):
    """N(mean, S (I + Q diag(stretch) Q^T) S), S = diag(scale)."""

    mean: torch.Tensor  # (D,)
    scale: torch.Tensor  # s > 0 (D,)
    directions: torch.Tensor  # Q (D, R), orthonormal columns
    stretch: torch.Tensor  # l > -1 (R,)

    @property
    def sd(self) -> torch.Tensor:
        """The sds of the coordinates of u (D,)."""
        return self.scale * (1 + self.directions.square() @ self.stretch).sqrt()

    @property
    def covariance(self) -> torch.Tensor:
        """Sigma (D, D)."""
        eye = torch.eye(len(self.mean), dtype=self.mean.dtype, device=self.mean.device)
        return self.scale[:, None] * (eye + (self.directions * self.stretch) @ self.directions.T) * self.scale

    def dense(self) -> FullRankNormal:
        """The same normal with a dense factor."""
        return FullRankNormal(self.mean, torch.linalg.cholesky(self.covariance))

    @property
    def log_det(self) -> torch.Tensor:
        """log |det Sigma|^(1/2), a scalar."""
        return self.scale.log().sum() + torch.log1p(self.stretch).sum() / 2

    def at(self, e: torch.Tensor) -> torch.Tensor:
        """u (n, D) for e (n, D)."""
        return self.mean + self.scale * self._stretched(e)

    def back(self, us: torch.Tensor) -> torch.Tensor:
        """e (n, D) of us (n, D): the inverse of `at`."""
        x = (us - self.mean) / self.scale
        return x + ((x @ self.directions) * ((1 + self.stretch).rsqrt() - 1)) @ self.directions.T

    def whitened(self, gradients: torch.Tensor) -> torch.Tensor:
        """h = F^T g (n, D) of the gradients g (n, D) of a log density, F the factor in u = mu + F e."""
        return self._stretched(self.scale * gradients)

    def log_prob_at(self, e: torch.Tensor) -> torch.Tensor:
        """The log density of u = at(e) in nats (n,)."""
        return -e.square().sum(-1) / 2 - len(self.mean) * math.log(2 * math.pi) / 2 - self.log_det

    def _stretched(self, x: torch.Tensor) -> torch.Tensor:
        return x + ((x @ self.directions) * ((1 + self.stretch).sqrt() - 1)) @ self.directions.T
