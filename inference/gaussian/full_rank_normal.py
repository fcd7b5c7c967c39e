"""A normal distribution of one unconstrained vector, kept as its mean and a factor of its covariance.

    u = mu + F e,   e ~ N(0, I),   Sigma = F F^T

In the whitened coordinates e every normal is the standard one, whatever the units and correlations of u. A score
g = d log p / du is h = F^T g there, and h = -e at every draw where p is this normal: h + e is what is left to fit.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch

ELSEWHERE = 5.0  # sds between two modes
# us (n, D) -> (log p(data, u) in nats (n,), gradients (n, D)); NaN or infinite where p has no density
Scores = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Values = Callable[[torch.Tensor], torch.Tensor]  # us (n, D) -> log p(data, u) in nats (n,): cheaper than with gradients


class Normal(Protocol):
    """A normal distribution of u (D,) in any form, u = at(e) for e ~ N(0, I)."""

    @property
    def mean(self) -> torch.Tensor: ...  # (D,)

    @property
    def sd(self) -> torch.Tensor: ...  # (D,)

    def at(self, e: torch.Tensor) -> torch.Tensor: ...  # (n, D) for e (n, D)

    def log_prob_at(self, e: torch.Tensor) -> torch.Tensor: ...  # of at(e), nats (n,)


class FullRankNormal(NamedTuple):
    """N(mean, factor factor^T)."""

    mean: torch.Tensor  # (D,)
    factor: torch.Tensor  # (D, D), any F with Sigma = F F^T

    @property
    def covariance(self) -> torch.Tensor:
        """Sigma (D, D)."""
        return self.factor @ self.factor.T

    @property
    def sd(self) -> torch.Tensor:
        """The sds of the coordinates of u (D,)."""
        return self.factor.norm(dim=1)

    def at(self, e: torch.Tensor) -> torch.Tensor:
        """u = mu + F e, (n, D) for e (n, D)."""
        return self.mean + e @ self.factor.T

    def back(self, us: torch.Tensor) -> torch.Tensor:
        """e (n, D) of us (n, D): the inverse of `at`."""
        return torch.linalg.solve(self.factor, (us - self.mean).T).T

    def log_prob_at(self, e: torch.Tensor) -> torch.Tensor:
        """The log density of u = mu + F e in nats (n,)."""
        return -e.square().sum(-1) / 2 - self.factor.shape[-1] * math.log(2 * math.pi) / 2 - self.log_det

    @property
    def log_det(self) -> torch.Tensor:
        """log |det F|, a scalar."""
        return torch.linalg.slogdet(self.factor).logabsdet

    def moved(self, shift: torch.Tensor, change: torch.Tensor) -> "FullRankNormal":
        """The normal that has the mean `shift` (D,) and the factor `change` (D, D) in the whitened coordinates."""
        return FullRankNormal(self.mean + self.factor @ shift, self.factor @ change)


def generator(seed: int, like: torch.Tensor) -> torch.Generator:
    """A random generator of one's own, on the device of a tensor."""
    return torch.Generator(like.device).manual_seed(seed)


def standard(n: int, like: Normal, noise: torch.Generator) -> torch.Tensor:
    """e ~ N(0, I), (n, D)."""
    mean = like.mean
    return torch.randn(n, len(mean), generator=noise, dtype=mean.dtype, device=mean.device)


class Counted:
    """Scores that count the points they are asked for."""

    def __init__(self, scores: Scores) -> None:
        self.scores, self.points = scores, 0

    def __call__(self, us: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.points += len(us)
        return self.scores(us)


def of_scores(scores: Scores) -> Values:
    """The values of scores, for a density that has no cheaper ones."""
    return lambda us: scores(us)[0]


def elsewhere(one: FullRankNormal, other: FullRankNormal) -> bool:
    """Whether their means differ by more than ELSEWHERE in a coordinate, in the larger of their sds: two modes."""
    return bool(((one.mean - other.mean).abs() / torch.maximum(one.sd, other.sd)).max() > ELSEWHERE)
