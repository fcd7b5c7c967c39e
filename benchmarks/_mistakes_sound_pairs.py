"""Sound pairs that could look like a mistake: tied weights, subsampling, dropout, other supports, shared data."""

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from _mistakes_case import (
    MU,
    Case,
    X,
    Z,
    normal,
    number,
    observing,
    positive,
    q_normal,
)
from pyro import poutine
from torch import nn

ENCODER, DECODER = nn.Linear(3, 4), nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.2), nn.Linear(8, 3))
SHARED, FROZEN, EVALUATED = nn.Linear(1, 1), nn.Linear(1, 1).requires_grad_(False), nn.Linear(1, 1).eval()
ROWS = torch.randn(40, 3, generator=torch.Generator().manual_seed(2))
STEP = [0]


def two(x: Any) -> None:
    a, b = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in "ab")
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(a - b, 1.0), obs=x)


def tied(x: Any) -> None:
    s = positive("s")
    pyro.sample("a", dist.Normal(number("ma"), s))
    pyro.sample("b", dist.Normal(number("mb"), s))


def fetched(x: Any) -> None:
    pyro.sample("a", dist.Normal(number("ma"), positive("s")))
    pyro.sample("b", dist.Normal(number("mb"), pyro.param("s")))


def decoder(x: Any) -> None:
    pyro.module("decoder", DECODER)
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(DECODER(z), 1.0).to_event(1), obs=x)


def encoder(x: Any) -> None:
    pyro.module("encoder", ENCODER)
    with pyro.plate("rows", len(x)):
        loc, scale = ENCODER(x).chunk(2, -1)
        pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


def with_shared(x: Any) -> None:
    pyro.module("shared", SHARED)
    mu = pyro.sample("mu", dist.Normal(SHARED(torch.ones(1))[0], 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def q_shared(x: Any) -> None:
    pyro.module("shared", SHARED)
    pyro.sample("mu", dist.Normal(SHARED(x.mean()[None])[0] + number("m"), positive("s")))


def shifted(net: nn.Module) -> Any:
    def model(x: Any) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x + 0 * net(x[:, None])[:, 0])

    return model


def by_size(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x), subsample_size=50) as index:
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x[index])


def by_index(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    index = torch.randperm(len(x))[:50]
    with pyro.plate("rows", len(x), subsample=index):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x[index])


def by_scale(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    index = torch.as_tensor(np.random.choice(len(x), 50))
    with poutine.scale(scale=len(x) / 50), pyro.plate("rows", 50):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x[index])


def happened(x: Any) -> None:
    slope = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=slope * x), obs=torch.tensor(1.0))


def ensemble(x: Any) -> None:
    with pyro.plate("models", 4, dim=-2):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(x), dim=-1):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def jittered(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x + 0.1 * torch.rand_like(x))


def annealed(x: Any) -> None:
    STEP[0] += 1
    with poutine.scale(scale=min(1.0, STEP[0] / 100)):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def with_factor(x: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    pyro.factor("likelihood", dist.Normal(mu, 1.0).log_prob(x).sum())
    pyro.sample("nothing", dist.Normal(0.0, 1.0), obs=torch.zeros(()))


def two_likelihoods(x: Any) -> None:
    mu, s = pyro.sample("mu", dist.Normal(0.0, 10.0)), pyro.sample("s", dist.LogNormal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)
        pyro.sample("heavy", dist.Laplace(mu, s), obs=x)


def partly(x: Any, keep: Any) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)), poutine.mask(mask=keep):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def likelihood_only(x: Any) -> None:
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(number("mu"), 1.0), obs=x)


def sigma(prior: Any) -> Any:
    def model(x: Any) -> None:
        s = pyro.sample("mu", prior)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(0.0, s), obs=x)

    return model


def q(distribution: Any) -> Any:
    return lambda *data: pyro.sample("mu", distribution())


def sound(name: str, model: Any, guide: Any, *data: Any, right: Any = None, **options: Any) -> Case:
    return Case("sound", name, model, guide, data or (X,), right=right, options=options)


POISSON = observing(lambda k: dist.Normal(k, 1.0), dist.Poisson(3.0))
ANGLE = observing(lambda t: dist.VonMises(t, 2.0), dist.VonMises(0.0, 0.1))
FEW = {"steps": 200}
CASES = [
    sound("a normal mean", normal, q_normal, right=MU),
    sound("no guide", normal, None, right=MU),
    sound("a tied scale", two, tied, **FEW),
    sound("a parameter fetched again", two, fetched, **FEW),
    sound("a VAE with dropout", decoder, encoder, ROWS, **FEW),
    sound("a network that both share", with_shared, q_shared, **FEW),
    sound("a frozen network", shifted(FROZEN), q_normal, right=MU),
    sound("a network in evaluation mode", shifted(EVALUATED), q_normal, **FEW),
    sound("subsample_size", by_size, q_normal, right=MU),
    sound("minibatches by index", by_index, q_normal, right=MU),
    sound("minibatches by scale", by_scale, q_normal, **FEW),
    sound("batch_size", normal, q_normal, right=MU, batch_size=25),
    sound("the event happened in each row", happened, None, Z, **FEW),
    sound("models in a plate share the data", ensemble, None, **FEW),
    sound("dequantised data", jittered, q_normal, **FEW),
    sound("a KL that is annealed", annealed, q_normal, **FEW),
    sound("a likelihood by pyro.factor", with_factor, q_normal, right=MU),
    sound("two likelihoods of one tensor", two_likelihoods, None, **FEW),
    sound("some rows masked", partly, lambda x, keep: q_normal(), X, X > 0, **FEW),
    sound("maximum likelihood, an empty guide", likelihood_only, lambda x: None, **FEW),
    sound("maximum likelihood, no guide", likelihood_only, None, **FEW),
    sound("MAP", normal, "map", **FEW),
    sound("MLE", normal, "mle", **FEW),
    sound("other argument names", normal, lambda data: q_normal(data), right=MU),
    sound("arguments by *data", normal, lambda *data, **named: q_normal(), right=MU),
    sound(
        "Gamma for LogNormal",
        sigma(dist.LogNormal(0.0, 1.0)),
        q(lambda: dist.Gamma(positive("a", 5.0), positive("b", 3.0))),
        **FEW,
    ),
    sound(
        "LogNormal for HalfCauchy",
        sigma(dist.HalfCauchy(1.0)),
        q(lambda: dist.LogNormal(number("m"), positive("s", 0.3))),
        **FEW,
    ),
    sound(
        "a normal far inside of a Gamma",
        sigma(dist.Gamma(2.0, 1.0)),
        q(lambda: dist.Normal(positive("a", 2.2), positive("b", 0.1))),
        **FEW,
    ),
    sound(
        "a uniform with trained bounds",
        normal,
        q(lambda: dist.Uniform(number("low", 1.5), number("low", 1.5) + positive("w", 1.0))),
        **FEW,
    ),
    sound("a truncated Poisson", POISSON, q(lambda: dist.Categorical(logits=pyro.param("l", torch.zeros(12)))), **FEW),
    sound(
        "a uniform angle",
        ANGLE,
        lambda x: pyro.sample("mu", dist.VonMises(number("m"), positive("k", 5.0))),
        Z / 3,
        **FEW,
    ),
]
