"""One program of `mistakes.py`: what is run, and what is right; the models that several programs share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

Right = Mapping[str, tuple[float, float]]  # {latent: (posterior mean, posterior sd)}


class Case(NamedTuple):
    """A program, and what is right.

    right: the posterior; None where the program must be refused or warned of (a mistake) or just run (a sound one).
    words: a regular expression that a refusal or a warning must contain: the thing that is wrong, by its name.
    call: what is run in the place of `credo.fit(model, guide, *data)`; it returns draws by name, or nothing.
    """

    kind: str
    name: str
    model: Callable[..., Any] | None = None
    guide: Any = None
    data: tuple[Any, ...] = ()
    words: str = "(?!)"
    right: Right | None = None
    call: Callable[[], Any] | None = None
    plain: bool = True  # whether plain Pyro runs it too, with its own SVI
    enumerates: bool = False  # whether plain Pyro needs TraceEnum_ELBO
    options: Mapping[str, Any] = {}  # of credo.fit


generator = torch.Generator().manual_seed(0)
X = torch.randn(100, generator=generator) + 2
Z = torch.randn(100, generator=generator)
LINE = 1 + 2 * Z + 0.5 * torch.randn(100, generator=generator)


def normal_mean(y: torch.Tensor, prior_sd: float = 10.0, sd: float = 1.0) -> tuple[float, float]:
    """The posterior mean and sd of mu, y ~ N(mu, sd), mu ~ N(0, prior_sd)."""
    precision = len(y) / sd**2 + 1 / prior_sd**2
    return (y.sum() / sd**2 / precision).item(), precision**-0.5


MU = {"mu": normal_mean(X)}


def normal(x: torch.Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def number(name: str, value: float = 0.0) -> torch.Tensor:
    value_now: torch.Tensor = pyro.param(name, torch.tensor(value))
    return value_now


def positive(name: str, value: float = 1.0) -> torch.Tensor:
    value_now: torch.Tensor = pyro.param(name, torch.tensor(value), constraint=constraints.positive)
    return value_now


def q_normal(*data: Any) -> None:
    pyro.sample("mu", dist.Normal(number("m"), positive("s")))


def observing(distribution: Callable[[torch.Tensor], Any], prior: Any = None) -> Callable[..., Any]:
    """A model of rows with one latent mu: x ~ distribution(mu)."""

    def model(x: torch.Tensor) -> None:
        mu = pyro.sample("mu", prior or dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", distribution(mu), obs=x)

    return model


def regression(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
    a, b = (pyro.sample(name, dist.Normal(0.0, 10.0)) for name in "ab")
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(a + b * x, 0.5), obs=y)


def line_posterior(x: torch.Tensor, y: torch.Tensor) -> dict[str, tuple[float, float]]:
    """The mean-field optimum of `regression`: exact means, sds of the diagonal of the precision."""
    a = torch.stack([torch.ones_like(x), x], 1).double()
    precision = torch.eye(2).double() / 100 + a.T @ a / 0.25
    mean = torch.linalg.solve(precision, a.T @ y.double() / 0.25)
    return {n: (mean[i].item(), precision[i, i].item() ** -0.5) for i, n in enumerate("ab")}
