"""Regressions of trust.py whose posteriors have no closed form."""

import pyro
import pyro.distributions as dist
import torch
from _trust_case import Posterior, noise


def posteriors() -> list[Posterior]:
    g = noise(10)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    def flips(p: torch.Tensor) -> torch.Tensor:
        return torch.bernoulli(p, generator=g)

    few, three, pairs, line, robust, wide = (
        randn(25, 3),
        randn(100, 3),
        randn(90, 2),
        randn(80),
        randn(60, 2),
        randn(40, 8),
    )
    tails = randn(60) / (0.2 + torch.rand(60, generator=g))
    cuts = torch.tensor([-1.0, 0.0, 1.0])
    return [
        Posterior("logistic", logistic, logistic_data(1000, 20)),
        Posterior("logistic, few rows", few_rows, (few, flips(torch.full((25,), 0.3)))),
        Posterior("Poisson regression", poisson, (three, torch.poisson(log_rate(three).exp(), generator=g))),
        Posterior("Student regression", student, (robust, robust @ torch.tensor([1.0, -2.0]) + 0.5 * tails)),
        Posterior("ordered logistic", ordered, (line, ((line + randn(80))[:, None] > cuts).sum(1))),
        Posterior("multinomial", multinomial, (pairs, (pairs @ randn(2, 3) + randn(90, 3)).argmax(1))),
        Posterior("heteroscedastic", heteroscedastic, (line, 1 + line + (0.5 * line).exp() * randn(80))),
        Posterior("shrinkage", shrinkage, (wide, 2 * wide[:, 0] + 0.5 * randn(40))),
        Posterior("regression, sd unknown", unknown_sd, (three, three @ randn(3) + 0.7 * randn(100))),
    ]


def logistic_data(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated columns, and flips with weights of sd 1/2."""
    g = noise(11)
    mixed = torch.eye(columns) + 0.3 * torch.randn(columns, columns, generator=g)
    x = torch.randn(rows, columns, generator=g) @ mixed
    w = 0.5 * torch.randn(columns, generator=g)
    return x, torch.bernoulli((x @ w).sigmoid(), generator=g)


def logistic(x, y):
    b = pyro.sample("b", dist.Normal(0.0, 3.0))
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=x @ w + b), obs=y)


def few_rows(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 2.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=x @ w - 1), obs=y)


def log_rate(x: torch.Tensor) -> torch.Tensor:
    return x @ torch.tensor([0.5, -0.3, 0.2]) + 1


def poisson(x, y):
    b = pyro.sample("b", dist.Normal(0.0, 3.0))
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Poisson((x @ w + b).exp()), obs=y)


def student(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 3.0).to_event(1))
    s = pyro.sample("s", dist.HalfCauchy(2.0))
    nu = pyro.sample("nu", dist.Gamma(2.0, 0.1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.StudentT(nu, x @ w, s), obs=y)


def ordered(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 2.0))
    normals = dist.Normal(torch.zeros(3), 1.0).to_event(1)
    c = pyro.sample("c", dist.TransformedDistribution(normals, [dist.transforms.OrderedTransform()]))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.OrderedLogistic(w * x, c), obs=y)


def multinomial(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1], 3), 1.0).to_event(2))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Categorical(logits=x @ w), obs=y)


def heteroscedastic(x, y):
    a = pyro.sample("a", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    c = pyro.sample("c", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(a[0] + a[1] * x, (c[0] + c[1] * x).exp()), obs=y)


def shrinkage(x, y):
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    s = pyro.sample("s", dist.HalfNormal(1.0))
    w = pyro.sample("w", dist.Laplace(torch.zeros(x.shape[1]), tau).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(x @ w, s), obs=y)


def unknown_sd(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 3.0).to_event(1))
    s = pyro.sample("s", dist.HalfNormal(2.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(x @ w, s), obs=y)
