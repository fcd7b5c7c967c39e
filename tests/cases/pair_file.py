"""A pair of a user's own, as the text of its file: the mean of a normal, without data."""

OWN = """
import pyro, torch, pyro.distributions as dist

def model(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

def guide(x):
    m = pyro.param("m", torch.tensor(0.0))
    s = pyro.param("s", torch.tensor(1.0), constraint=dist.constraints.positive)
    pyro.sample("loc", dist.Normal(m, s))
"""
