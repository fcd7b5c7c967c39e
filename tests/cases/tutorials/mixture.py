"""Models of Pyro's own tutorials that more than one test runs."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import config_enumerate


@config_enumerate
def gaussian_mixture(data):
    """Of the GMM tutorial: the assignments are enumerated in the model, no guide has them."""
    weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(2)))
    with pyro.plate("components", 2):
        locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(data)):
        k = pyro.sample("k", dist.Categorical(weights))
        pyro.sample("obs", dist.Normal(locs[k], 1.0), obs=data)
