"""The programs of gpu.py: the pairs of the repository, and programs as people write them, with no word on devices."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import autoguide
from torch import nn
from torch.distributions import constraints

import credo

CENTRE = torch.tensor([1.0, -1.0])  # a constant on the CPU, made outside of the model


class Program(NamedTuple):
    name: str
    model: Callable[..., Any]
    guide: Callable[[], Any]  # a new guide, or the word for one
    data: tuple[Any, ...]
    options: Mapping[str, Any] = {}


def programs() -> list[Program]:
    noise = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=noise)
    y = x @ CENTRE + 0.5 * torch.randn(40, generator=noise)
    found = []
    for name in credo.names():
        pair = credo.load(name)
        found.append(Program(name, pair.model, lambda pair=pair: pair.guide, pair.data()))
    for model, data in ((normal, (y,)), (regression, (x, y)), (correlated, (x, y))):
        for word in (None, "map", "mle"):
            found.append(Program(f"{model.__name__}, {word!r}", model, lambda word=word: word, data))
        for kind in GUIDES:
            found.append(Program(f"{model.__name__}, {kind.__name__}", model, lambda k=kind, m=model: k(m), data))
    found += [
        Program("regression, batches of 10", regression, lambda: None, (x, y), {"batch_size": 10}),
        Program("mixture, summed out", mixture, lambda: None, (y,)),
        Program("mixture, batches of 10", mixture, lambda: None, (y,), {"batch_size": 10}),
        Program("hidden Markov model", hidden_markov, lambda: None, (y[:6],)),
        Program("switches, enumerated", switches, lambda: switches_guide, (y,)),
        Program("switches, one-flip", switches, lambda: switches_guide, (y,), {"plan": {"z": "one-flip"}}),
        Program("switches, score", switches, lambda: switches_guide, (y,), {"plan": {"z": "score"}}),
        Program("counts, score", counts, lambda: counts_guide, (y,)),
        Program("batch norm", Normed(), lambda: None, (x, y)),
    ]
    return found


GUIDES = (
    autoguide.AutoNormal,
    autoguide.AutoDiagonalNormal,
    autoguide.AutoMultivariateNormal,
    autoguide.AutoLowRankMultivariateNormal,
    autoguide.AutoIAFNormal,
    autoguide.AutoDelta,
)


def normal(y):
    m = pyro.sample("m", dist.Normal(0.0, 5.0))
    s = pyro.sample("s", dist.Gamma(2.0, 2.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(m, s), obs=y)


def regression(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal((x - CENTRE) @ w, 1.0), obs=y)


def correlated(x, y):
    w = pyro.sample("w", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def mixture(y):
    p = pyro.sample("p", dist.Dirichlet(torch.ones(2)))
    with pyro.plate("components", 2):
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    with pyro.plate("rows", len(y)):
        z = pyro.sample("z", dist.Categorical(p))
        pyro.sample("y", dist.Normal(mu[z], 1.0), obs=y)


def hidden_markov(y):
    t = pyro.sample("t", dist.Dirichlet(torch.ones(2, 2)).to_event(1))
    k = 0
    for i in pyro.markov(range(len(y))):
        k = pyro.sample(f"k{i}", dist.Categorical(t[k]))
        pyro.sample(f"y{i}", dist.Normal(2.0 * k, 1.0), obs=y[i])


def switches(y):
    with pyro.plate("rows", len(y)):
        z = pyro.sample("z", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def switches_guide(y):
    q = pyro.param("q", lambda: torch.full((len(y),), 0.5), constraint=constraints.unit_interval)
    with pyro.plate("rows", len(y)):
        pyro.sample("z", dist.Bernoulli(q))


def counts(y):
    k = pyro.sample("k", dist.Poisson(3.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(k, 2.0), obs=y)


def counts_guide(y):
    pyro.sample("k", dist.Poisson(pyro.param("rate", torch.tensor(3.0), constraint=constraints.positive)))


class Normed(nn.Module):
    """A network with batch norm, whose running mean changes with every step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, x, y):
        pyro.module("net", self.net)
        s = pyro.sample("s", dist.Gamma(2.0, 2.0))
        with pyro.plate("rows", len(y)):
            pyro.sample("y", dist.Normal(self.net(x)[:, 0], s), obs=y)
