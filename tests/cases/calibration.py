"""Pairs whose guide is a formula: posteriors in closed form, and the same with a mistake planted.

A model here has a name, its data (for sizes and inputs) and guides that have no parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch

SD = 0.5  # of the prior of a mean
ROWS = 6
X = torch.linspace(0.5, 3, 12)


class Case(NamedTuple):
    """A pair on data."""

    model: Callable[..., Any]
    guide: Any
    data: tuple[Any, ...]


def normal_mean(y):
    m = pyro.sample("m", dist.Normal(0.0, SD))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, 1.0), obs=y)


def of_mean(sd=SD, noise=1.0, spread=1.0, shift=0.0, times=1.0):
    """Its posterior, exact with the defaults."""

    def guide(y):
        precision = 1 / sd**2 + times * len(y) / noise**2
        mean = times * y.sum() / noise**2 / precision
        pyro.sample("m", dist.Normal(mean + shift, spread * precision**-0.5))

    return guide


def two_means(a, b):
    for name, y in (("a", a), ("b", b)):
        m = pyro.sample(f"m_{name}", dist.Normal(0.0, 1.0))
        with pyro.plate(name, len(y)):
            pyro.sample(f"y_{name}", dist.Normal(m, 1.0), obs=y)


def of_two_means(swapped=False):
    def guide(a, b):
        for name, y in (("a", b if swapped else a), ("b", a if swapped else b)):
            pyro.sample(f"m_{name}", dist.Normal(y.sum() / (len(y) + 1), (len(y) + 1) ** -0.5))

    return guide


def flips(y):
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Bernoulli(p), obs=y)


def of_flips(mislabelled=False):
    def guide(y):
        ones = (1 - y).sum() if mislabelled else y.sum()
        pyro.sample("p", dist.Beta(2.0 + ones, 3.0 + len(y) - ones))

    return guide


def counts(y):
    rate = pyro.sample("rate", dist.Gamma(3.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Poisson(rate), obs=y)


def of_counts(y):
    pyro.sample("rate", dist.Gamma(3.0 + y.sum(), 1.0 + len(y)))


def of_counts_without_jacobian(y):
    """A normal for the rate, moved to its log without the factor: the mean of the rate is right, its log is not."""
    a, b = 3.0 + y.sum(), 1.0 + len(y)
    pyro.sample("rate", dist.LogNormal((a / b).log() + 1 / a, (2 / a).sqrt()))


def regression(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w[0] + w[1] * x, 0.7), obs=y)


def of_regression(diagonal=False):
    def guide(x, y):
        X = torch.stack([torch.ones_like(x), x], 1)
        precision = torch.eye(2) + X.T @ X / 0.49
        mean = torch.linalg.solve(precision, X.T @ y / 0.49)
        if diagonal:  # of least KL(q || p)
            pyro.sample("w", dist.Normal(mean, precision.diagonal().rsqrt()).to_event(1))
        else:
            pyro.sample("w", dist.MultivariateNormal(mean, precision_matrix=precision))

    return guide


def heavy(y):
    m = pyro.sample("m", dist.Normal(0.0, 3.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.StudentT(2.0, m, 1.0), obs=y)


def of_heavy(y):
    """As if the noise were normal."""
    pyro.sample("m", dist.Normal(y.sum() / (len(y) + 1 / 9), (len(y) + 1 / 9) ** -0.5))


def shares(y):
    p = pyro.sample("p", dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0])))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Categorical(p), obs=y)


def of_shares(y):
    pyro.sample("p", dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0]) + torch.nn.functional.one_hot(y, 3).sum(0)))


def walk(y):
    """An autoregression: reads what it observes."""
    a = pyro.sample("a", dist.Normal(0.0, 0.5))
    with pyro.plate("T", len(y) - 1):
        pyro.sample("y", dist.Normal(a * y[:-1], 1.0), obs=y[1:])


def of_walk(y):
    precision = 4 + y[:-1].square().sum()
    pyro.sample("a", dist.Normal((y[:-1] * y[1:]).sum() / precision, precision**-0.5))


def groups(y):
    """Local latents: a mean for each row of y (rows, columns)."""
    with pyro.plate("G", len(y), dim=-2):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("N", y.shape[1], dim=-1):
            pyro.sample("y", dist.Normal(m, 1.0), obs=y)


def of_groups(y):
    n = y.shape[1]
    with pyro.plate("G", len(y), dim=-2):
        pyro.sample("m", dist.Normal(y.sum(1, keepdim=True) / (n + 1), (n + 1) ** -0.5))


def prior_alone(y):
    """A guide that ignores the data: every latent has uniform ranks."""
    pyro.sample("m", dist.Normal(0.0, SD))


Y = torch.ones(ROWS)
MISFITS = {
    "wrong prior sd": Case(normal_mean, of_mean(sd=3.0), (Y,)),
    "too narrow": Case(normal_mean, of_mean(spread=0.7), (Y,)),
    "too wide": Case(normal_mean, of_mean(spread=1.4), (Y,)),
    "biased mean": Case(normal_mean, of_mean(shift=0.12), (Y,)),
    "wrong likelihood scale": Case(normal_mean, of_mean(noise=2.0), (Y,)),
    "mean field": Case(regression, of_regression(diagonal=True), (X, X)),
    "wrong transform": Case(counts, of_counts_without_jacobian, (Y,)),
    "swapped latents": Case(two_means, of_two_means(swapped=True), (Y, Y)),
    "heavy tails ignored": Case(heavy, of_heavy, (Y,)),
    "forgotten plate scaling": Case(normal_mean, of_mean(times=0.25), (Y,)),
    "label bug": Case(flips, of_flips(mislabelled=True), (Y,)),
    "prior alone": Case(normal_mean, prior_alone, (Y,)),
}
SOUND = {
    "normal mean": Case(normal_mean, of_mean(), (Y,)),
    "two means": Case(two_means, of_two_means(), (Y, torch.ones(9))),
    "flips": Case(flips, of_flips(), (Y,)),
    "counts": Case(counts, of_counts, (Y,)),
    "regression": Case(regression, of_regression(), (X, X)),
    "shares": Case(shares, of_shares, (torch.ones(9, dtype=torch.int64),)),
    "autoregression": Case(walk, of_walk, (Y,)),
    "groups": Case(groups, of_groups, (torch.ones(3, 4),)),
}
