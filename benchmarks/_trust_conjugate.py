"""Posteriors of trust.py in closed form: the formulas are written here, and owe nothing to `credo.exact`."""

import math

import pyro
import pyro.distributions as dist
import torch
from _trust_case import Known, Posterior, closed, linear, noise


def posteriors() -> list[Posterior]:
    flips = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    counts = torch.tensor([3.0, 1.0, 4.0, 2.0, 3.0])
    faces = torch.tensor([0, 1, 1, 2, 2, 2, 2, 0, 1, 2])
    few = torch.tensor([0.3, -0.2, 0.5])
    rows, one = 2 + torch.randn(30, generator=noise(1)), torch.tensor([1.7])
    return [
        Posterior("coin", coin, (flips,), known=of_coin(flips)),
        Posterior("normal mean", normal_mean, (rows,), known=of_normal_mean(rows)),
        Posterior("one row", normal_mean, (one,), known=of_normal_mean(one)),
        Posterior("rate", rate, (counts,), known=of_rate(counts)),
        Posterior("precision", precision, (few,), known=of_precision(few)),
        Posterior("die", die, (faces,), known=of_die(faces)),
        sum_of_two(torch.tensor([1.5])),
        correlated(),
        years(),
        scales(),
    ]


def coin(y):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Bernoulli(p), obs=y)


def of_coin(y: torch.Tensor) -> Known:
    return of_dirichlet("p", torch.tensor([2.0, 2.0]), torch.stack([y.sum(), (1 - y).sum()]), first=True)


def die(y):
    p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Categorical(p), obs=y)


def of_die(y: torch.Tensor) -> Known:
    return of_dirichlet("p", torch.ones(3), y.bincount(minlength=3))


def of_dirichlet(site: str, prior: torch.Tensor, counts: torch.Tensor, first: bool = False) -> Known:
    """Dirichlet(prior + counts). first: of the first share only, which is a Beta."""

    def log_beta(a: torch.Tensor) -> float:
        return (a.lgamma().sum() - a.sum().lgamma()).item()

    a = prior.double() + counts
    mean = a / a.sum()
    sd = (mean * (1 - mean) / (1 + a.sum())).sqrt()
    return Known({site: closed(*((mean[0], sd[0]) if first else (mean, sd)))}, log_beta(a) - log_beta(prior.double()))


def normal_mean(y):
    m = pyro.sample("m", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(m, 1.0), obs=y)


def of_normal_mean(y: torch.Tensor) -> Known:
    mean, cov, evidence = linear(torch.ones(len(y), 1), y, 10.0, 1.0)
    return Known({"m": closed(mean[0], cov[0, 0].sqrt())}, evidence)


def rate(y):
    r = pyro.sample("r", dist.Gamma(2.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Poisson(r), obs=y)


def of_rate(y: torch.Tensor) -> Known:
    y = y.double()
    return of_gamma("r", 2.0, 1.0, y.sum().item(), float(len(y)), -(y + 1).lgamma().sum().item())


def precision(y):
    t = pyro.sample("t", dist.Gamma(1.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(0.0, t.rsqrt()), obs=y)


def of_precision(y: torch.Tensor) -> Known:
    n = len(y)
    return of_gamma("t", 1.0, 1.0, n / 2, y.double().square().sum().item() / 2, -n / 2 * math.log(2 * math.pi))


def of_gamma(site: str, a: float, b: float, shape: float, rate: float, constant: float) -> Known:
    """Gamma(a + shape, b + rate), from the likelihood e^constant t^shape e^(-rate t) and a Gamma(a, b) prior."""
    more = math.lgamma(a + shape) - (a + shape) * math.log(b + rate)
    moments = closed((a + shape) / (b + rate), math.sqrt(a + shape) / (b + rate))
    return Known({site: moments}, constant + more - math.lgamma(a) + a * math.log(b))


def sum_of_two(y: torch.Tensor) -> Posterior:
    def model(y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 2.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(a + b, 0.1), obs=y)

    mean, cov, evidence = linear(torch.ones(1, 2), y, torch.tensor([1.0, 2.0]), 0.1)
    sd = cov.diagonal().sqrt()
    known = Known({"a": closed(mean[0], sd[0]), "b": closed(mean[1], sd[1])}, evidence)
    return Posterior("sum of two", model, (y,), known=known)


def regression(x, y, prior, sd):
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), prior).to_event(1))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(x @ w, sd), obs=y)


def of_regression(name: str, x: torch.Tensor, y: torch.Tensor, prior: torch.Tensor, sd: float) -> Posterior:
    """A regression with its closed form; prior (D,), the sds of the weights."""
    mean, cov, evidence = linear(x, y, prior, sd)
    known = Known({"w": closed(mean, cov.diagonal().sqrt())}, evidence)

    def model(x, y, prior):
        regression(x, y, prior, sd)

    return Posterior(name, model, (x, y, prior), known=known)


def correlated() -> Posterior:
    """Four columns, each pair with correlation .995."""
    g = noise(2)
    x = 0.005**0.5 * torch.randn(200, 4, generator=g) + 0.995**0.5 * torch.randn(200, 1, generator=g)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0.0]) + 0.5 * torch.randn(200, generator=g)
    return of_regression("correlated", x, y, torch.full((4,), 10.0), 0.5)


def years() -> Posterior:
    """An intercept and a slope on years that are not centred: a correlation of -.99999."""
    t = torch.arange(1980.0, 2020.0)
    y = 0.05 * (t - 2000) + 10 + 0.3 * torch.randn(40, generator=noise(3))

    def model(t, y):
        a = pyro.sample("a", dist.Normal(0.0, 200.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(a + b * t, 0.3), obs=y)

    mean, cov, evidence = linear(torch.stack([torch.ones(40), t], 1), y, torch.tensor([200.0, 1.0]), 0.3)
    sd = cov.diagonal().sqrt()
    known = Known({"a": closed(mean[0], sd[0]), "b": closed(mean[1], sd[1])}, evidence)
    return Posterior("years", model, (t, y), known=known)


def scales() -> Posterior:
    """Columns with sds from 1e-4 to 1e6."""
    g, each = noise(4), torch.logspace(-4, 6, 6)
    x = torch.randn(80, 6, generator=g)
    y = x @ torch.randn(6, generator=g) + 0.5 * torch.randn(80, generator=g)
    return of_regression("scales", x * each, y, 10 / each, 0.5)
