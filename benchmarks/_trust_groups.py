"""Hierarchies of trust.py: eight schools, groups of rows as in the radon data, rats, counts with a common share."""

import pyro
import pyro.distributions as dist
import torch
from _trust_case import Posterior, noise

EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def posteriors() -> list[Posterior]:
    deaths = torch.tensor([4.0, 2.0, 9.0, 1.0, 0.0, 5.0, 3.0, 6.0])
    return [
        Posterior("schools, decentred", schools_decentred, (EFFECTS, ERRORS)),
        Posterior("schools", schools, (EFFECTS, ERRORS), schools_decentred),
        Posterior("20 groups", groups, groups_data(20, 6), groups_decentred),
        Posterior("85 groups", groups, groups_data(85, 8), groups_decentred),
        Posterior("85 groups, decentred", groups_decentred, groups_data(85, 8)),
        Posterior("400 groups", groups, groups_data(400, 5), groups_decentred),
        Posterior("rats", rats, (deaths,)),
    ]


def schools(y, sd):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("J", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sd), obs=y)


def schools_decentred(y, sd):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("J", len(y)):
        e = pyro.sample("e", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * e)
        pyro.sample("y", dist.Normal(theta, sd), obs=y)


def groups_data(groups: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(the group of each row, x, y); `rows` rows in each group."""
    g = noise(groups)
    of_row = torch.arange(groups).repeat_interleave(rows)
    x = torch.randn(len(of_row), generator=g)
    a = 1.0 + 0.4 * torch.randn(groups, generator=g)
    return of_row, x, a[of_row] - 0.6 * x + 0.7 * torch.randn(len(of_row), generator=g)


def groups(g, x, y):
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    b = pyro.sample("b", dist.Normal(0.0, 2.0))
    s = pyro.sample("s", dist.HalfNormal(1.0))
    with pyro.plate("J", int(g.max()) + 1):
        a = pyro.sample("a", dist.Normal(mu, tau))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(a[g] + b * x, s), obs=y)


def groups_decentred(g, x, y):
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    b = pyro.sample("b", dist.Normal(0.0, 2.0))
    s = pyro.sample("s", dist.HalfNormal(1.0))
    with pyro.plate("J", int(g.max()) + 1):
        e = pyro.sample("e", dist.Normal(0.0, 1.0))
    a = pyro.deterministic("a", mu + tau * e)
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(a[g] + b * x, s), obs=y)


def rats(y):
    m = pyro.sample("m", dist.Beta(1.0, 1.0))
    k = pyro.sample("k", dist.Gamma(2.0, 0.2))
    with pyro.plate("J", len(y)):
        p = pyro.sample("p", dist.Beta(m * k, (1 - m) * k))
        pyro.sample("y", dist.Binomial(20, p), obs=y)
