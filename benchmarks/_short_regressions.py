"""Programs of short.py without networks or finite latents: regressions, hierarchies, a Gaussian process, factors.

Each function returns a `Case`. Every call makes new data and new networks from the same seed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal
from torch.distributions import constraints

POSITIVE = constraints.positive


class Case(NamedTuple):
    """A model and a guide, the data, and the ELBO that Pyro takes for them."""

    model: Callable[..., Any]
    guide: Callable[..., Any]
    data: tuple[Any, ...]
    elbo: Callable[[], Any] = Trace_ELBO


def bayesian_regression() -> Case:
    """Linear regression with unknown noise, AutoDiagonalNormal. N = 170, D = 4."""
    torch.manual_seed(0)
    x = torch.randn(170, 4)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0.0]) + 0.3 * torch.randn(170) + 1.0

    def model(x, y):
        sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
        bias = pyro.sample("bias", dist.Normal(0.0, 5.0))
        weight = pyro.sample("weight", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(bias + x @ weight, sigma), obs=y)

    return Case(model, AutoDiagonalNormal(model), (x, y))


def logistic_regression() -> Case:
    """Logistic regression, AutoMultivariateNormal. N = 500, D = 8."""
    torch.manual_seed(1)
    x = torch.randn(500, 8)
    y = torch.bernoulli(torch.sigmoid(x @ torch.linspace(-1.0, 1.0, 8)))

    def model(x, y):
        beta = pyro.sample("beta", dist.Normal(torch.zeros(x.shape[1]), 2.0).to_event(1))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=x @ beta), obs=y)

    return Case(model, AutoMultivariateNormal(model), (x, y))


def eight_schools() -> Case:
    """Rubin's eight schools, centred, a guide with two parameters for each latent."""
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def model(y, sigma):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        tau = pyro.sample("tau", dist.HalfCauchy(10.0))
        with pyro.plate("schools", len(y)):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, sigma), obs=y)

    def guide(y, sigma):
        m_mu, s_mu = pyro.param("m_mu", torch.tensor(0.0)), pyro.param("s_mu", torch.tensor(1.0), constraint=POSITIVE)
        m_tau, s_tau = (
            pyro.param("m_tau", torch.tensor(0.0)),
            pyro.param("s_tau", torch.tensor(0.5), constraint=POSITIVE),
        )
        m, s = pyro.param("m", torch.zeros(len(y))), pyro.param("s", torch.ones(len(y)), constraint=POSITIVE)
        pyro.sample("mu", dist.Normal(m_mu, s_mu))
        pyro.sample("tau", dist.LogNormal(m_tau, s_tau))
        with pyro.plate("schools", len(y)):
            pyro.sample("theta", dist.Normal(m, s))

    return Case(model, guide, (y, sigma))


def hierarchy() -> Case:
    """Radon levels: an intercept and a slope for each of 20 counties, AutoNormal. N = 300."""
    torch.manual_seed(2)
    county, floor = torch.randint(20, (300,)), torch.bernoulli(torch.full((300,), 0.3))
    y = 1.3 + 0.4 * torch.randn(20)[county] - 0.7 * floor + 0.7 * torch.randn(300)

    def model(county, floor, y):
        m_a, s_a = pyro.sample("m_a", dist.Normal(0.0, 2.0)), pyro.sample("s_a", dist.HalfNormal(1.0))
        m_b, s_b = pyro.sample("m_b", dist.Normal(0.0, 2.0)), pyro.sample("s_b", dist.HalfNormal(1.0))
        with pyro.plate("counties", 20):
            a = pyro.sample("a", dist.Normal(m_a, s_a))
            b = pyro.sample("b", dist.Normal(m_b, s_b))
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(a[county] + b[county] * floor, noise), obs=y)

    return Case(model, AutoNormal(model), (county, floor, y))


def student_t() -> Case:
    """Robust regression: Student's t with unknown degrees of freedom, a guide with names of its own. N = 200."""
    torch.manual_seed(3)
    x = torch.linspace(-2.0, 2.0, 200)
    y = 0.5 - 1.5 * x + dist.StudentT(3.0, 0.0, 0.4).sample((200,))

    def model(x, y):
        df = pyro.sample("df", dist.Gamma(2.0, 0.1))
        scale = pyro.sample("scale", dist.HalfNormal(1.0))
        a, b = pyro.sample("a", dist.Normal(0.0, 3.0)), pyro.sample("b", dist.Normal(0.0, 3.0))
        with pyro.plate("N", len(x)):
            pyro.sample("y", dist.StudentT(df, a + b * x, scale), obs=y)

    def guide(x, y):
        for name, law in (("df", dist.LogNormal), ("scale", dist.LogNormal), ("a", dist.Normal), ("b", dist.Normal)):
            loc = pyro.param(f"{name}_loc", torch.tensor(0.0))
            pyro.sample(name, law(loc, pyro.param(f"{name}_scale", torch.tensor(0.3), constraint=POSITIVE)))

    return Case(model, guide, (x, y))


def gaussian_process() -> Case:
    """Regression by a Gaussian process whose kernel's parameters are latent, AutoNormal. N = 60."""
    torch.manual_seed(4)
    x = torch.linspace(0.0, 5.0, 60)
    y = 0.5 * torch.sin(3.0 * x) + 0.2 * torch.randn(60)

    def model(x, y):
        variance = pyro.sample("variance", dist.LogNormal(0.0, 1.0))
        length = pyro.sample("length", dist.LogNormal(0.0, 1.0))
        noise = pyro.sample("noise", dist.LogNormal(-1.0, 1.0))
        square = (x[:, None] - x) ** 2
        k = variance * torch.exp(-0.5 * square / length**2) + (noise + 1e-4) * torch.eye(len(x))
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), k), obs=y)

    return Case(model, AutoNormal(model), (x, y))


def sparse_gamma() -> Case:
    """A deep exponential family: three layers of gammas over counts, gamma guides. N = 30 rows of 40 counts."""
    torch.manual_seed(5)
    counts = dist.Poisson(dist.Gamma(0.3, 0.3).sample((30, 4)) @ dist.Gamma(0.3, 0.3).sample((4, 40))).sample()
    layers = (("top", 5), ("middle", 4), ("bottom", 3))

    def model(x):
        weights = {}
        for name, (m, n) in {"w_top": (5, 4), "w_middle": (4, 3), "w_bottom": (3, x.shape[1])}.items():
            weights[name] = pyro.sample(name, dist.Gamma(0.1 * torch.ones(m, n), 0.3).to_event(2))
        with pyro.plate("N", len(x)):
            top = pyro.sample("z_top", dist.Gamma(0.1 * torch.ones(5), 0.1).to_event(1))
            middle = pyro.sample("z_middle", dist.Gamma(0.1, 0.1 / (top @ weights["w_top"])).to_event(1))
            bottom = pyro.sample("z_bottom", dist.Gamma(0.1, 0.1 / (middle @ weights["w_middle"])).to_event(1))
            pyro.sample("x", dist.Poisson(bottom @ weights["w_bottom"]).to_event(1), obs=x)

    def gamma(name, *shape):
        shape_of = pyro.param(f"{name}_shape", torch.full(shape, 0.8), constraint=constraints.greater_than(0.05))
        mean = pyro.param(f"{name}_mean", torch.full(shape, 0.7), constraint=constraints.greater_than(1e-3))
        return dist.Gamma(shape_of, shape_of / mean)

    def guide(x):
        for name, (m, n) in {"w_top": (5, 4), "w_middle": (4, 3), "w_bottom": (3, x.shape[1])}.items():
            pyro.sample(name, gamma(name, m, n).to_event(2))
        with pyro.plate("N", len(x)):
            for name, size in layers:
                pyro.sample(f"z_{name}", gamma(f"z_{name}", len(x), size).to_event(1))

    return Case(model, guide, (counts,))


def image_factors() -> Case:
    """Factor analysis of 8 x 8 images: three factors a picture, unknown loadings, AutoNormal. N = 50."""
    torch.manual_seed(6)
    images = torch.randn(50, 3) @ torch.randn(3, 64) + 0.3 * torch.randn(50, 64)

    def model(images):
        loadings = pyro.sample("loadings", dist.Normal(torch.zeros(3, 64), 1.0).to_event(2))
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        with pyro.plate("N", len(images)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("pixels", dist.Normal(z @ loadings, noise).to_event(1), obs=images)

    return Case(model, AutoNormal(model), (images,))


def state_space() -> Case:
    """A random walk seen with noise: a latent for each of 20 times, two parameters for each."""
    torch.manual_seed(7)
    y = torch.randn(20).cumsum(0)

    def model(y):
        z = 0.0
        for t in range(len(y)):
            z = pyro.sample(f"z{t}", dist.Normal(z, 1.0))
            pyro.sample(f"y{t}", dist.Normal(z, 0.5), obs=y[t])

    def guide(y):
        for t in range(len(y)):
            scale = pyro.param(f"s{t}", torch.tensor(1.0), constraint=POSITIVE)
            pyro.sample(f"z{t}", dist.Normal(pyro.param(f"m{t}", torch.tensor(0.0)), scale))

    return Case(model, guide, (y,))


def coin() -> Case:
    """The first tutorial: the fairness of a coin, Beta guide, 10 flips."""
    flips = torch.tensor([1.0] * 6 + [0.0] * 4)

    def model(flips):
        f = pyro.sample("fairness", dist.Beta(10.0, 10.0))
        with pyro.plate("flips", len(flips)):
            pyro.sample("x", dist.Bernoulli(f), obs=flips)

    def guide(flips):
        a = pyro.param("a", torch.tensor(15.0), constraint=POSITIVE)
        b = pyro.param("b", torch.tensor(15.0), constraint=POSITIVE)
        pyro.sample("fairness", dist.Beta(a, b))

    return Case(model, guide, (flips,))


REGRESSIONS = (
    *(coin, bayesian_regression, logistic_regression, eight_schools, hierarchy, student_t, gaussian_process),
    *(sparse_gamma, image_factors, state_space),
)
