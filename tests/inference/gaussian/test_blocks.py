"""Groups that are found, and those that are none."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.blocks import blocks
from credo.inference.gaussian.density import prepared
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered

GROUP, Y = torch.arange(60) % 20, torch.linspace(-1, 1, 60)


def two_sites(y):
    """Intercepts and slopes of 20 groups; globals before, between and after."""
    mean = pyro.sample("mean", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("groups", 20):
        a = pyro.sample("a", dist.Normal(mean[0], 1.0))
        scale = pyro.sample("scale", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    with pyro.plate("N", 60):
        pyro.sample("y", dist.Normal(a[GROUP] + (scale[GROUP] * y[:, None]).sum(-1), noise), obs=y)


def vector(y):
    """Groups in a dimension of the event, with no plate."""
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    z = pyro.sample("z", dist.Normal(torch.zeros(60), tau).to_event(1))
    pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=y)


def crossed(y):
    """Rows and columns: the larger number of them is local."""
    with pyro.plate("rows", 60):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("columns", 10):
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(a[:, None] + b, 1.0).to_event(2), obs=y[:, None].expand(60, 10))


def chain(y):
    """Each latent depends on its neighbour."""
    z = pyro.sample("z", dist.Normal(torch.zeros(60), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(z.cumsum(-1), 1.0).to_event(1), obs=y)


def one_pair(y):
    """All are independent except for the first and the last."""
    z = pyro.sample("z", dist.Normal(torch.zeros(60), 1.0).to_event(1))
    pyro.factor("pair", -0.1 * (z[0] - z[-1]) ** 2)
    pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=y)


def sum_to_zero(y):
    z = pyro.sample("z", dist.Normal(torch.zeros(60), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(z - z.mean(), 1.0).to_event(1), obs=y)


def simplex(y):
    shares = pyro.sample("shares", dist.Dirichlet(torch.ones(60)))
    pyro.sample("y", dist.Normal(shares * 60, 1.0).to_event(1), obs=y)


def found(model):
    density, state, _ = prepared(model, (Y,), torch.device("cpu"), 0)
    with entered(state), default_dtype(density.first.dtype):
        return blocks(density), density


@pytest.mark.parametrize(
    ("model", "shared", "local"), [(two_sites, 3, (20, 4)), (vector, 1, (60, 1)), (crossed, 10, (60, 1))]
)
def test_groups_are_found(model, shared, local):
    groups, density = found(model)
    assert len(groups.shared) == shared and groups.local.shape == local
    everything = torch.cat([groups.shared, groups.local.flatten()]).sort().values
    assert torch.equal(everything, torch.arange(len(density.first)))
    density_hessian = _hessian(model)
    dependent = density_hessian[groups.local[:, None, :, None], groups.local[None, :, None, :]].abs().sum((2, 3)) > 1e-8
    assert torch.equal(dependent, torch.eye(local[0], dtype=torch.bool))


@pytest.mark.parametrize("model", [chain, one_pair, sum_to_zero, simplex])
def test_latents_that_depend_on_each_other_are_no_groups(model):
    assert found(model)[0] is None


def _hessian(model):
    density, state, _ = prepared(model, (Y,), torch.device("cpu"), 1)
    with entered(state), default_dtype(density.first.dtype):
        return density.hessians(density.first[None])[0]
