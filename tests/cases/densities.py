"""Log densities of one vector for tests of Gaussian approximations, with what is known of them."""

from collections.abc import Callable
from typing import NamedTuple

import torch


class Target(NamedTuple):
    """A log density f(u) of u (D,), with its scores and Hessians at many points."""

    f: Callable[[torch.Tensor], torch.Tensor]
    D: int

    def scores(self, us: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gradients, values = torch.func.vmap(torch.func.grad_and_value(self.f))(us)
        return values, gradients

    def hessians(self, us: torch.Tensor) -> torch.Tensor:
        return torch.func.vmap(torch.func.jacrev(torch.func.grad(self.f)))(us)

    def starts(self, seed: int, n: int = 4) -> torch.Tensor:
        """n points, uniform on -2 to 2 in each coordinate."""
        noise = torch.Generator().manual_seed(seed)
        return 4 * torch.rand(n, self.D, generator=noise, dtype=torch.float64) - 2


class Normal(NamedTuple):
    """The normal distribution that a density is, up to a constant: log f = log N(mean, covariance) + log_evidence."""

    mean: torch.Tensor
    covariance: torch.Tensor
    log_evidence: float

    def errors(self, q) -> tuple[float, float]:
        """(largest error of a mean in sds, largest relative error of an sd) of a normal q."""
        sd = self.covariance.diagonal().sqrt()
        return ((q.mean - self.mean) / sd).abs().max().item(), (q.sd / sd - 1).abs().max().item()


def normal(D: int, condition: float, far: float = 5.0, scales: torch.Tensor | None = None) -> tuple[Target, Normal]:
    """A normal whose covariance has this condition number; `far` times its sds from 0; then in other units."""
    noise = torch.Generator().manual_seed(D)
    Q, _ = torch.linalg.qr(torch.randn(D, D, generator=noise, dtype=torch.float64))
    values = torch.logspace(0, torch.tensor(condition).log10().item(), D, dtype=torch.float64)
    covariance, precision = (Q * values) @ Q.T, (Q / values) @ Q.T
    mean = far * covariance.diagonal().sqrt() * torch.randn(D, generator=noise, dtype=torch.float64)
    units = torch.ones(D, dtype=torch.float64) if scales is None else scales

    def f(u):
        return 3.0 - (u / units - mean) @ precision @ (u / units - mean) / 2

    evidence = 3.0 + torch.logdet(2 * torch.pi * covariance).item() / 2 + units.log().sum().item()
    return Target(f, D), Normal(mean * units, covariance * units * units[:, None], evidence)


def logistic(D: int = 10, rows: int = 400) -> Target:
    """A logistic regression with correlated columns: its posterior is nearly normal."""
    noise = torch.Generator().manual_seed(1)
    mix = torch.randn(D, D, generator=noise, dtype=torch.float64) / 2 + torch.eye(D, dtype=torch.float64)
    x = torch.randn(rows, D, generator=noise, dtype=torch.float64) @ mix.T / 2
    w = torch.randn(D, generator=noise, dtype=torch.float64)
    y = (torch.rand(rows, generator=noise, dtype=torch.float64) < (x @ w).sigmoid()).double()
    return Target(lambda u: (y * (x @ u) - torch.nn.functional.softplus(x @ u)).sum() - u.square().sum() / 8, D)


def _banana(u):
    return -(u[0] ** 2) / 2 - (u[1] - u[0] ** 2) ** 2 / 0.2


def _funnel(u):
    return -(u[0] ** 2) / 18 - u[1:].square().sum() * (-u[0]).exp() / 2 - 9 * u[0] / 2


def _modes(u):
    return torch.logaddexp(-(u - 4).square().sum() / 2, -(u + 4).square().sum() / 2)


BANANA, FUNNEL, MODES = Target(_banana, 2), Target(_funnel, 10), Target(_modes, 2)
