"""The mean of a normal from four rows, with a prior that counts as a fifth, and a guide that can be the posterior."""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

Y = torch.tensor([1.3, 0.2, 2.0, 0.7])


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def guide(y):
    loc = pyro.param("loc", torch.tensor(0.3))
    pyro.sample("z", dist.Normal(loc, pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)))
