"""A pair with a site of each kind for plans: a normal vector, a gamma, a point and a coin for each row."""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

X = torch.tensor([0.5, 1.5, -0.3])


def model(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
    point = pyro.sample("point", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(torch.where(k > 0, loc[0], loc[1]) + point, rate), obs=x)


def guide(x):
    pyro.sample("loc", dist.Normal(pyro.param("m", torch.zeros(2)), 1.0).to_event(1))
    pyro.sample("rate", dist.Gamma(pyro.param("a", torch.tensor(2.0), constraint=constraints.positive), 2.0))
    pyro.sample("point", dist.Delta(pyro.param("p", torch.tensor(0.0))))
    with pyro.plate("N", len(x)):
        pyro.sample("k", dist.Bernoulli(pyro.param("q", torch.full((3,), 0.5), constraint=constraints.unit_interval)))
