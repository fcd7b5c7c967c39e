"""Which latents one network can infer: those of rows apart from each other. Others are refused by name."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.pair.row_latents import row_latents

X = torch.randn(8, 2)


def shared(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("groups", 3):
        level = pyro.sample("level", dist.Normal(mu, 1.0))
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.LogNormal(level[0], 1.0))
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z * k.unsqueeze(-1), 1.0).to_event(1), obs=x)


def chain(x):
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z.cumsum(-1), 1.0), obs=x[:, 0])


def lag(x):
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("smooth", -z.diff().square().sum())
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])


def by_name(x):
    z = torch.tensor(0.0)
    for t in pyro.markov(range(len(x))):
        z = pyro.sample(f"z_{t}", dist.Normal(z, 1.0))
        pyro.sample(f"x_{t}", dist.Normal(z, 1.0), obs=x[t, 0])


def along(x):
    z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])


def none(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x[:, 0])


def subsampled(x):
    with pyro.plate("N", len(x), subsample_size=4) as i:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[i, 0])


def loop(x):
    for i in pyro.plate("N", len(x)):
        pyro.sample(f"z_{i}", dist.Normal(0.0, 1.0))


def pairs(x):
    with pyro.plate("N", len(x), dim=-1), pyro.plate("M", len(x), dim=-2):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def fixed(x):
    with pyro.plate("N", 8):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])


def test_latents_of_rows_are_found_and_those_of_groups_are_shared():
    found = row_latents(shared, (X,))
    assert list(found.sites) == ["k", "z"] and found.plate == "N" and found.arguments == (0,)
    assert not pyro.get_param_store()


@pytest.mark.parametrize(
    ("model", "why"),
    {
        chain: "site 'x' depends on the latents of other rows",
        lag: "site 'smooth' depends on the latents of other rows",
        by_name: "site 'z_8' exists with 9 rows and not with 8",
        along: "site 'z' has an entry for each row along its event",
        none: "no continuous latent stands in a plate over the 8 rows",
        subsampled: "leave subsample_size out",
        loop: "site 'z_8' exists with 9 rows",
        pairs: "site 'z' stands in two plates over rows",
        fixed: "site 'z' stands in plate 'N' of size 8, whatever the data",
    }.items(),
)
def test_what_one_network_cannot_infer_is_refused_by_name(model, why):
    with pytest.raises(ValueError, match=why):
        row_latents(model, (X,))


def test_data_without_rows_are_refused():
    with pytest.raises(ValueError, match="no tensor with rows"):
        row_latents(none, (3.0,))
