"""A latent for each row with its exact posterior: a hierarchical normal with known variances.

    mu ~ N(0, WIDE²),   z_n ~ N(mu, BETWEEN²),   y_n ~ N(z_n, WITHIN²),   n = 1 .. N

Given y, (mu, z) is normal: mu has precision 1 / WIDE² + N / (BETWEEN² + WITHIN²), and z_n | mu, y_n is a normal whose
mean is a weighted mean of y_n and mu (Gelman et al. 2013, eq. 5.17 to 5.20).
"""

import pyro
import pyro.distributions as dist
import torch

WIDE, BETWEEN, WITHIN = 5.0, 1.0, 0.3


def model(y):
    mu = pyro.sample("mu", dist.Normal(0.0, WIDE))
    with pyro.plate("N", len(y)):
        z = pyro.sample("z", dist.Normal(mu, BETWEEN))
        pyro.sample("y", dist.Normal(z, WITHIN), obs=y)


def guide(y):
    loc, scale = pyro.param("mu.loc", torch.zeros(())), pyro.param("mu.scale", torch.tensor(0.1), POSITIVE)
    pyro.sample("mu", dist.Normal(loc, scale))
    locs, scales = pyro.param("loc", torch.zeros(len(y))), pyro.param("scale", torch.full((len(y),), 0.5), POSITIVE)
    with pyro.plate("N", len(y)):
        pyro.sample("z", dist.Normal(locs, scales))


POSITIVE = dist.constraints.positive


def data(n, seed=0):
    """Rows drawn from the model at mu = 1."""
    draws = torch.Generator().manual_seed(seed)
    z = 1.0 + BETWEEN * torch.randn(n, generator=draws)
    return z + WITHIN * torch.randn(n, generator=draws)


def exact_moments(y):
    """(mean and sd of mu, means of z (N,), their sds): exact, of the whole posterior."""
    y = y.double()
    precision = WIDE**-2 + len(y) / (BETWEEN**2 + WITHIN**2)
    mean = y.sum() / (BETWEEN**2 + WITHIN**2) / precision
    own = BETWEEN**-2 + WITHIN**-2  # of z_n given mu
    means = (y / WITHIN**2 + mean / BETWEEN**2) / own
    sds = (1 / own + (1 / BETWEEN**2 / own) ** 2 / precision) ** 0.5
    return mean, precision**-0.5, means, torch.full_like(means, sds)


def mean_field_sds(n):
    """(sd of mu, of each z_n) of the best mean-field normal: those of their conditionals (Bishop 2006, eq. 10.11)."""
    return (WIDE**-2 + n / BETWEEN**2) ** -0.5, (BETWEEN**-2 + WITHIN**-2) ** -0.5
