"""Decentred coordinates: the same posterior, whose density has the Jacobian of z = loc + scale e."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import prepared
from credo.inference.importance.chart import Chart, decentred
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.state import entered

CPU = torch.device("cpu")


def groups(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfNormal(2.0))
    with pyro.plate("J", 4):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def by_hand(y):
    """The same with the noise as the latent."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfNormal(2.0))
    with pyro.plate("J", 4):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * theta, 1.0), obs=y)


def events(y):
    """Sites of an event, of another family, below a mask, and beside finite sites that are summed out."""
    tau = pyro.sample("tau", dist.LogNormal(0.0, 1.0))
    w = pyro.sample("w", dist.Laplace(torch.zeros(3), tau).to_event(1))
    k = pyro.sample("k", dist.Bernoulli(0.3))
    pyro.sample("y", dist.Normal(w.sum() + 2 * k, 1.0), obs=y)


def independent(y):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    s = pyro.sample("s", dist.HalfNormal(1.0))
    pyro.sample("y", dist.Normal(a, s), obs=y)


def not_a_scale(y):
    """The scale of a positive site is no scale of its values."""
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    z = pyro.sample("z", dist.LogNormal(0.0, tau))
    pyro.sample("y", dist.Normal(z, 1.0), obs=y)


Y = torch.tensor([1.0, -1.0, 2.0, 0.5])


def test_the_density_is_that_of_the_model_written_with_its_noise():
    one, state, _ = prepared(groups, (Y,), CPU, 0)
    other, _, _ = prepared(by_hand, (Y,), CPU, 0)
    with entered(state), default_dtype(torch.float64):
        chart = decentred(one)
        assert chart.decentred == {"theta"}
        us = torch.randn(5, 6, dtype=torch.float64)
        wanted, slopes = other.at_each(us)
        torch.testing.assert_close(chart.values(us), wanted)
        values, gradients = chart.scores(us)
        torch.testing.assert_close(values, wanted)
        torch.testing.assert_close(gradients, slopes)
        z, e = chart.sites(us), other.constrained(us)
        torch.testing.assert_close(z["theta"], z["mu"][:, None] + z["tau"][:, None] * e["theta"])
        torch.testing.assert_close(Chart(one).values(us), one.at_each(us)[0])


@pytest.mark.parametrize(("model", "names"), [(events, {"w"}), (independent, None), (not_a_scale, None)])
def test_which_sites_are_decentred(model, names):
    density, state, _ = prepared(model, (torch.tensor(1.0),), CPU, 0)
    with entered(state), default_dtype(torch.float64):
        chart = decentred(density)
        assert (None if chart is None else chart.decentred) == names
        if chart is not None:  # log p(w, e) = log p(w, z) + log |scale|
            us = torch.randn(4, len(density.first), dtype=torch.float64)
            z = chart.sites(us)
            back = torch.cat([us[:, :1], z["w"]], 1)
            torch.testing.assert_close(chart.values(us), density.at_each(back)[0] + 3 * us[:, 0])
