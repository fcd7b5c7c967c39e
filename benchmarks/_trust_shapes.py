"""Posteriors of trust.py of other shapes: counts, lifetimes, mixtures, time series, curves, a banana."""

import pyro
import pyro.distributions as dist
import torch
from _trust_case import Posterior, noise


def posteriors() -> list[Posterior]:
    g = noise(20)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=g)

    def poisson(rates: torch.Tensor) -> torch.Tensor:
        return torch.poisson(rates, generator=g)

    unit, times = torch.linspace(0, 1, 20), torch.linspace(0, 10, 25)
    two = torch.cat([-2 + 0.7 * randn(20), 2 + 0.7 * randn(30)])
    three = torch.cat([-3 + 0.6 * randn(25), 0.6 * randn(25), 3 + 0.6 * randn(25)])
    return [
        Posterior("many rows", mean_and_sd, (5 + 2 * randn(20_000),)),
        Posterior("mean and sd", mean_and_sd, (3 + 1.5 * randn(12),)),
        Posterior("negative binomial", negative_binomial, (poisson(8 * rand(60)),)),
        Posterior("zero-inflated", zero_inflated, (poisson(3.0 * (rand(60) < 0.6).float()),)),
        Posterior("Weibull", weibull, (2 * (-rand(40).log()) ** 0.6,)),
        Posterior("taxis", taxis, (torch.tensor([12.0, 40.0, 33.0]),)),
        Posterior("banana", banana, (torch.tensor(0.5),)),
        Posterior("mixture", mixture, (two,)),
        Posterior("mixture, ordered means", ordered_mixture, (three,)),
        Posterior("change point", change_point, (poisson(torch.tensor([3.0, 6.0]).repeat_interleave(25)),)),
        Posterior("growth", growth, (times, 10 / (1 + 9 * torch.exp(-0.8 * times)) + 0.4 * randn(25))),
        Posterior("GP, counts", gp_counts, (unit, poisson((1 + torch.sin(6 * unit)).exp()))),
        Posterior("AR(2)", ar2, (ar2_data(randn(80)),)),
        Posterior("GARCH", garch, (garch_data(randn(150)),)),
    ]


def mean_and_sd(y):
    m = pyro.sample("m", dist.Normal(0.0, 10.0))
    s = pyro.sample("s", dist.HalfCauchy(2.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, s), obs=y)


def negative_binomial(y):
    r = pyro.sample("r", dist.Gamma(2.0, 0.5))
    p = pyro.sample("p", dist.Beta(1.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.NegativeBinomial(r, p), obs=y)


def zero_inflated(y):
    p = pyro.sample("p", dist.Beta(1.0, 1.0))
    r = pyro.sample("r", dist.Gamma(2.0, 0.5))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.ZeroInflatedPoisson(r, gate=p), obs=y)


def weibull(y):
    k = pyro.sample("k", dist.Gamma(2.0, 1.0))
    scale = pyro.sample("scale", dist.Gamma(2.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Weibull(scale, k), obs=y)


def taxis(y):
    n = pyro.sample("n", dist.Pareto(10.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(n / 2, n / 4), obs=y)


def banana(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(a**2, 0.3))
    pyro.sample("y", dist.Normal(b, 2.0), obs=y)


def mixture(y):
    m = pyro.sample("m", dist.Normal(0.0, 3.0))
    d = pyro.sample("d", dist.LogNormal(1.0, 0.5))
    w = pyro.sample("w", dist.Beta(2.0, 2.0))
    s = pyro.sample("s", dist.HalfNormal(2.0))
    with pyro.plate("N", len(y)):
        k = pyro.sample("k", dist.Bernoulli(w))
        pyro.sample("y", dist.Normal(m + d * k, s), obs=y)


def ordered_mixture(y):
    p = pyro.sample("p", dist.Dirichlet(2 * torch.ones(3)))
    normals = dist.Normal(torch.zeros(3), 2.0).to_event(1)
    m = pyro.sample("m", dist.TransformedDistribution(normals, [dist.transforms.OrderedTransform()]))
    s = pyro.sample("s", dist.HalfNormal(2.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(p), dist.Normal(m, s)), obs=y)


def change_point(y):
    early = pyro.sample("early", dist.Gamma(2.0, 0.5))
    late = pyro.sample("late", dist.Gamma(2.0, 0.5))
    k = pyro.sample("k", dist.Categorical(torch.ones(len(y))))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Poisson(torch.where(torch.arange(len(y)) < k[..., None], early, late)), obs=y)


def growth(t, y):
    K = pyro.sample("K", dist.LogNormal(2.0, 1.0))
    r = pyro.sample("r", dist.LogNormal(0.0, 1.0))
    y0 = pyro.sample("y0", dist.LogNormal(0.0, 1.0))
    s = pyro.sample("s", dist.HalfNormal(1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(K / (1 + (K / y0 - 1) * torch.exp(-r * t)), s), obs=y)


def gp_counts(t, y):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
    K = scale**2 * torch.exp(-((t[:, None] - t) ** 2) / 0.08) + 1e-3 * torch.eye(len(t))
    f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(t)), K))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Poisson(f.exp()), obs=y)


def ar2_data(e: torch.Tensor) -> torch.Tensor:
    y = [0.0, 0.0]
    for each in e.tolist():
        y.append(0.6 * y[-1] - 0.3 * y[-2] + each)
    return torch.tensor(y)


def ar2(y):
    a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    s = pyro.sample("s", dist.HalfNormal(2.0))
    with pyro.plate("N", len(y) - 2):
        pyro.sample("y", dist.Normal(a[0] * y[1:-1] + a[1] * y[:-2], s), obs=y[2:])


def garch_data(e: torch.Tensor) -> torch.Tensor:
    h, y = 1.0, []
    for each in e.tolist():
        y.append(h**0.5 * each)
        h = 0.3 + 0.3 * y[-1] ** 2 + 0.5 * h
    return torch.tensor(y)


def garch(y):
    w = pyro.sample("w", dist.HalfNormal(1.0))
    a = pyro.sample("a", dist.Uniform(0.0, 1.0))
    b = pyro.sample("b", dist.Uniform(0.0, 1.0))
    h, variances = torch.ones(()), []
    for each in y:
        variances.append(h)
        h = w + a * each**2 + b * (1 - a) * h
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(0.0, torch.stack(variances).sqrt()), obs=y)
