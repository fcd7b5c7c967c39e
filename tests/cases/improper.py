"""A model whose posterior is improper: a factor takes the prior of one latent away."""

import pyro
import pyro.distributions as dist


def improper(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    pyro.factor("no prior", a**2 / 2)
    pyro.sample("y", dist.Normal(b, 1.0), obs=y)
