"""Unconstrained coordinates: there and back, their Jacobian beside autograd, and points at the edge of a support."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import credo
from credo.inference.exact.coordinates import coordinates_of
from credo.inference.runtime.sites import latent


def every_support():
    with pyro.plate("J", 3):
        pyro.sample("scale", dist.Gamma(2.0, 1.0))
    pyro.sample("share", dist.Dirichlet(torch.ones(4)))
    pyro.sample("u", dist.Uniform(-1.0, 3.0))
    pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def drawn():
    """(coordinates, values of all sites)."""
    sites = latent(poutine.trace(every_support).get_trace())
    return coordinates_of(sites), {name: site["value"] for name, site in sites.items()}


def test_flat_and_back_are_the_same_values(double):
    coordinates, z = drawn()
    x = coordinates.flat(z)
    assert x.shape == (coordinates.size,) == (3 + 3 + 1 + 2,)
    back = coordinates.values(x)
    for name, value in z.items():
        torch.testing.assert_close(back[name], value)
    torch.testing.assert_close(x[coordinates.variables["w"].part], z["w"])


def test_the_jacobian_is_that_of_autograd(double):
    """The last entry of a simplex is one minus the others."""
    coordinates, z = drawn()
    x = coordinates.flat(z)

    def free(x):
        return torch.cat([v.reshape(-1)[:3] for v in coordinates.values(x).values()])

    J = torch.autograd.functional.jacobian(free, x)
    torch.testing.assert_close(coordinates.log_jacobian(x), torch.linalg.slogdet(J).logabsdet)


def test_values_at_the_edge_of_a_support_are_moved_inside(double):
    coordinates, _ = drawn()
    inf = torch.inf
    edge = {
        "scale": torch.tensor([0.0, 1.0, inf]),
        "share": torch.tensor([1.0, 0.0, 0.0, 0.0]),
        "u": torch.tensor(3.0),
        "w": torch.tensor([inf, torch.nan]),
    }
    x = coordinates.flat(edge)
    z = coordinates.values(x)
    assert x.isfinite().all() and all(v.isfinite().all() for v in z.values())
    assert (z["scale"] > 0).all() and (z["share"] > 0).all() and -1 < z["u"] < 3
    torch.testing.assert_close(z["scale"][1], torch.tensor(1.0))


def test_a_support_without_a_family_is_refused():
    sites = {"L": {"fn": dist.LKJCholesky(3, 1.0), "cond_indep_stack": ()}}
    with pytest.raises(credo.NoClosedForm, match="'L': LKJCholesky has the support"):
        coordinates_of(sites)
