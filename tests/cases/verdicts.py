"""Fits whose verdicts are known."""

import warnings

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

import credo

Y = torch.tensor(4.0)


def normals(*names, scale=0.1):
    def guide(y):
        for name in names:
            loc = pyro.param(f"{name}_loc", torch.tensor(0.1))
            sd = pyro.param(f"{name}_scale", torch.tensor(scale), constraint=constraints.positive)
            pyro.sample(name, dist.Normal(loc, sd))

    return guide


def mean(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(a, 1.0), obs=y)


def total(y):
    a, b = pyro.sample("a", dist.Normal(0.0, 10.0)), pyro.sample("b", dist.Normal(0.0, 10.0))
    pyro.sample("y", dist.Normal(a + b, 0.5), obs=y)


def fitted(model, guide, y, **options):
    """The fit, whatever it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        steps = {} if isinstance(guide, str) else {"steps": 150, "plan": "fast", "lr": 0.1}
        return credo.fit(model, guide, y, progress=False, **(steps | options))
