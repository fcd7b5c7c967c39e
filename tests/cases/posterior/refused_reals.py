"""Models without a closed form whose latents are all real: the family is a normal, and it does not fit."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch

from tests.cases.posterior.oracles import randn, rows, t

Y = t(1.3, 0.2, 2.0, -0.7, 0.9, 1.1)
COUNTS = t(3, 0, 4, 11, 2)
X, LABELS = randn(51, 30, 3), (randn(52, 30) > 0).double()


class Refused(NamedTuple):
    """words: a regular expression, case ignored."""

    model: Callable[..., Any]
    data: tuple[Any, ...]
    sites: tuple[str, ...]
    words: str


def of_mean(f, prior=None, noise=None):
    """z ~ N(0, 1) unless told otherwise, y ~ N(f(z), 0.7) unless told otherwise."""

    def model(y):
        z = pyro.sample("z", prior() if prior else dist.Normal(0.0, 1.0))
        rows("y", lambda: noise(f(z)) if noise else dist.Normal(f(z), 0.7), y)

    return model


def student(dof):
    return of_mean(lambda z: z, noise=lambda m: dist.StudentT(dof, m, 1.0))


def classified(link):
    def model(X, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3, dtype=X.dtype), 1.5).to_event(1))
        rows("y", lambda: dist.Bernoulli(link(X @ w)), y)

    return model


def one_logit(y):
    z = pyro.sample("z", dist.Normal(0.0, 0.1))
    rows("y", lambda: dist.Bernoulli(logits=z), y)


def branching(threshold):
    def model(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        mean = 2.0 * z if z > threshold else z + threshold
        rows("y", lambda: dist.Normal(mean, 0.7), y)

    return model


def product(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    rows("y", lambda: dist.Normal(a * b, 0.7), y)


def network(X, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(3, 2, dtype=X.dtype), 1.0).to_event(2))
    v = pyro.sample("v", dist.Normal(torch.zeros(2, dtype=X.dtype), 1.0).to_event(1))
    rows("y", lambda: dist.Normal(torch.tanh(X @ w) @ v, 0.7), y)


def nearly_linear(X, y):
    """One coefficient of three enters through its square, weakly."""
    w = pyro.sample("w", dist.Normal(torch.zeros(3, dtype=X.dtype), 1.5).to_event(1))
    rows("y", lambda: dist.Normal(X @ w + 1e-3 * w[..., :1] ** 2, 0.7), y)


def autoregressive(y):
    phi = pyro.sample("phi", dist.Normal(0.5, 0.3))
    z = torch.tensor(0.0)
    for i in range(len(y)):
        z = pyro.sample(f"z{i}", dist.Normal(phi * z, 1.0))
        pyro.sample(f"y{i}", dist.Normal(z, 0.7), obs=y[i])


NORMAL = "normal|gaussian|quadratic"
REALS = {
    "t with 3 dof": Refused(student(3.0), (Y,), ("z",), NORMAL),
    "t with 30 dof": Refused(student(30.0), (Y,), ("z",), NORMAL),
    "t with 300 dof": Refused(student(300.0), (Y,), ("z",), NORMAL),
    "logistic regression": Refused(classified(torch.sigmoid), (X, LABELS), ("w",), NORMAL),
    "probit regression": Refused(classified(torch.special.ndtr), (X, LABELS), ("w",), NORMAL),
    "one logit, narrow prior": Refused(one_logit, (LABELS,), ("z",), NORMAL),
    "relu": Refused(of_mean(torch.relu), (Y,), ("z",), NORMAL),
    "relu, 5 sds away": Refused(of_mean(lambda z: torch.relu(z + 5)), (Y + 5,), ("z",), NORMAL),
    "step": Refused(of_mean(lambda z: 2.0 * (z > 1)), (Y,), ("z",), NORMAL + "|constant|jump"),
    "step, 4 sds away": Refused(of_mean(lambda z: 2.0 * (z > 4)), (Y,), ("z",), NORMAL + "|constant|jump"),
    "poisson with a normal log rate": Refused(of_mean(torch.exp, noise=dist.Poisson), (COUNTS,), ("z",), NORMAL),
    "volatility": Refused(of_mean(torch.exp, noise=lambda s: dist.Normal(0.0, s)), (Y,), ("z",), NORMAL),
    "nearly linear": Refused(of_mean(lambda z: z + 0.01 * torch.sin(z)), (Y,), ("z",), NORMAL),
    "nearly linear regression": Refused(nearly_linear, (X, LABELS), ("w",), NORMAL),
    "cauchy prior": Refused(of_mean(lambda z: z, lambda: dist.Cauchy(0.0, 1.0)), (Y,), ("z",), NORMAL),
    "laplace prior": Refused(of_mean(lambda z: z, lambda: dist.Laplace(0.0, 1.0)), (Y,), ("z",), NORMAL),
    "t prior": Refused(of_mean(lambda z: z, lambda: dist.StudentT(5.0, 0.0, 1.0)), (Y,), ("z",), NORMAL),
    "branch": Refused(branching(0.5), (Y,), ("z",), NORMAL + "|branch|python|item"),
    "branch, 3 sds away": Refused(branching(-3.0), (Y - 3,), ("z",), NORMAL + "|branch|python|item"),
    "product": Refused(product, (Y,), ("a", "b"), NORMAL),
    "network": Refused(network, (X, LABELS), ("w", "v"), NORMAL),
    "unknown autoregression": Refused(autoregressive, (Y,), ("phi", *(f"z{i}" for i in range(6))), NORMAL),
}
