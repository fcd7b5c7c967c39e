"""Pairs with latents that take infinitely many values: counts, whose ELBO is a truncated sum, and mixtures."""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import Normal, Poisson, kl_divergence
from torch.distributions import constraints as c

from tests.cases.elbo.expectations import (
    Case,
    Y,
    coin,
    coin_of,
    entropy,
    hermite,
    log_normal,
    mean_under,
    observe,
    param,
    positive,
)

DATA, COUNTS = Y.double(), torch.arange(60).double()  # what lies beyond has less than 1e-20 of all mass


def fits(mean, variance=0.0):
    """log p(y) of all rows for each of the means."""
    return log_normal(DATA, mean[..., None], 1.0, torch.as_tensor(variance)[..., None]).sum(-1)


def summed(q, log_p, log_q=None):
    """sum_n q(n) (log p(n) - log q(n)) over the counts."""
    weight = q.log_prob(COUNTS)
    return (weight.exp() * (log_p - (weight if log_q is None else log_q))).sum(-1)


def poisson_model(y):
    observe(y, 0.7 * pyro.sample("n", dist.Poisson(positive("prior", 2.5))))


def poisson_guide(y):
    pyro.sample("n", dist.Poisson(positive("rate", 0.6)))


def poisson_elbo(p):
    return summed(Poisson(p["rate"]), Poisson(p["prior"]).log_prob(COUNTS) + fits(0.7 * COUNTS))


def geometric_model(y):
    observe(y, 0.5 * pyro.sample("n", dist.Geometric(torch.tensor(0.4))))


def geometric_guide(y):
    pyro.sample("n", dist.Geometric(param("chance", 0.7, c.unit_interval)))


def geometric_elbo(p):
    prior = dist.Geometric(torch.tensor(0.4).double()).log_prob(COUNTS)
    return summed(dist.Geometric(p["chance"]), prior + fits(0.5 * COUNTS))


def mixed_model(y):
    """A count, a normal and a coin in one mean."""
    n = pyro.sample("n", dist.Poisson(torch.tensor(1.0)))
    z, k = pyro.sample("z", dist.Normal(0.0, 1.0)), pyro.sample("k", dist.Bernoulli(0.3))
    observe(y, 0.5 * n + z + k)


def mixed_guide(y):
    """The count's rate depends on the normal, the coin on the count: gradients of all three kinds flow on."""
    z = pyro.sample("z", dist.Normal(param("m", -0.6), positive("s", 0.5)))
    n = pyro.sample("n", dist.Poisson((param("a", -0.2) + param("b", 0.6) * z).exp()))
    pyro.sample("k", dist.Bernoulli(logits=param("u", 0.4) - param("v", 0.5) * n))


def mixed_elbo(p):
    z, weight = hermite(p["m"], p["s"], 32)
    z = z[:, None]
    rate, inner = (p["a"] + p["b"] * z).exp(), 0.0
    for k in (0.0, 1.0):
        q = coin(p["u"] - p["v"] * COUNTS, k)
        inner = inner + q.exp() * (coin_of(0.3, k) - q + fits(0.5 * COUNTS + z + k))
    outer = summed(Poisson(rate), Poisson(torch.tensor(1.0)).log_prob(COUNTS) + inner)
    return (weight * outer).sum() - kl_divergence(Normal(p["m"], p["s"]), Normal(0.0, 1.0))


def below_model(y):
    """The normal's prior depends on the count, and in the guide the count on the normal: no closed KL."""
    n = pyro.sample("n", dist.Poisson(torch.tensor(1.0)))
    observe(y, pyro.sample("z", dist.Normal(0.8 * n, 1.0)))


def below_guide(y):
    z = pyro.sample("z", dist.Normal(param("m", 0.5), positive("s", 0.6)))
    pyro.sample("n", dist.Poisson((param("a", 0.3) + param("b", 0.4) * z).exp()))


def below_elbo(p):
    z, weight = hermite(p["m"], p["s"])
    z = z[:, None]
    prior = Poisson(torch.tensor(1.0)).log_prob(COUNTS) + log_normal(z, 0.8 * COUNTS)
    outer = summed(Poisson((p["a"] + p["b"] * z).exp()), prior) + fits(z.squeeze(-1))
    return (weight * outer).sum() + entropy(p["s"])


def after_model(y):
    """A normal after a count in both: given the count, its KL is closed."""
    n = pyro.sample("n", dist.Poisson(torch.tensor(1.0)))
    observe(y, pyro.sample("z", dist.Normal(0.8 * n, 1.0)))


def after_guide(y):
    n = pyro.sample("n", dist.Poisson(positive("rate", 0.6)))
    pyro.sample("z", dist.Normal(param("m", 0.4) + param("a", 0.3) * n, positive("s", 0.6)))


def after_elbo(p):
    mean = p["m"] + p["a"] * COUNTS
    given = fits(mean, p["s"] ** 2) - kl_divergence(Normal(mean, p["s"]), Normal(0.8 * COUNTS, 1.0))
    return summed(Poisson(p["rate"]), Poisson(torch.tensor(1.0)).log_prob(COUNTS) + given)


def mixture_model(y):
    observe(y, pyro.sample("z", dist.Normal(0.0, 1.5)))


def mixture_guide(y):
    """A density without rsample."""
    parts = dist.Normal(param("m", [-0.6, 1.0]), positive("s", [0.5, 0.7]))
    pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(logits=param("u", [0.2, -0.3])), parts))


def mixture_elbo(p):
    parts = dist.Normal(p["m"], p["s"])
    q = dist.MixtureSameFamily(dist.Categorical(logits=p["u"]), parts)
    return mean_under(q, lambda z: log_normal(z, 0.0, 1.5) + fits(z) - q.log_prob(z), -7.0, 8.0)


def scaled_guide(y):
    """Half of log q alone: an entropy that counts less. The draws are those of q all the same."""
    with pyro.poutine.scale(scale=0.5):
        poisson_guide(y)


def scaled_elbo(p):
    q = Poisson(p["rate"])
    return summed(q, Poisson(p["prior"]).log_prob(COUNTS) + fits(0.7 * COUNTS), 0.5 * q.log_prob(COUNTS))


COUNTED = {
    "poisson": Case(poisson_model, poisson_guide, poisson_elbo, ({"n": "score"},)),
    "poisson, one particle": Case(poisson_model, poisson_guide, poisson_elbo, (), 1, 350),
    "geometric": Case(geometric_model, geometric_guide, geometric_elbo, (), 30),
    "count, normal and coin, particles by credo": Case(mixed_model, mixed_guide, mixed_elbo, (), None, 120),
    "count, normal and coin": Case(
        mixed_model, mixed_guide, mixed_elbo, ({"n": "score", "k": "enumerate"}, {"z": "score"}, {"k": "score"})
    ),
    "count below, crossed": Case(below_model, below_guide, below_elbo, ({"z": "score"},)),
    "normal after a count": Case(after_model, after_guide, after_elbo, ({"z": "score"},)),
    "mixture as a guide": Case(mixture_model, mixture_guide, mixture_elbo),
    "guide scaled alone": Case(poisson_model, scaled_guide, scaled_elbo),
}
