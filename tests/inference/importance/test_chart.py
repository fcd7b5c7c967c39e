"""Decentred coordinates: the same posterior, whose density has the Jacobian of z = loc + scale e."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import prepared
from credo.inference.importance.budget import OutOfTime, deadline
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


def fragile(y):
    """Groups whose rows have no covariance where mu is below -3: there the model raises an error."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfNormal(2.0))
    root = torch.linalg.cholesky(torch.eye(4) * (mu + 3))
    with pyro.plate("J", 4):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
    pyro.sample("y", dist.MultivariateNormal(theta, scale_tril=root), obs=y)


@pytest.mark.parametrize("what", ["values", "scores", "sites"])
def test_points_where_the_model_raises_an_error_are_nan_and_the_others_are_not(what):
    density, state, _ = prepared(fragile, (Y,), CPU, 3)
    with entered(state), default_dtype(torch.float64):
        chart = decentred(density)._replace(density=density._replace(vectorised=True, chunk=2))
        us = torch.randn(7, 6, dtype=torch.float64)
        us[:, 0] = torch.tensor([-4.0, -1.0, 0.0, 1.0, 2.0, -5.0, 2.5])
        take = {
            "values": chart.values,
            "scores": lambda u: chart.scores(u)[1],
            "sites": lambda u: chart.sites(u)["theta"],
        }
        found = take[what](us)
        assert found.reshape(7, -1).isfinite().all(1).tolist() == [i not in (0, 5) for i in range(7)]
        torch.testing.assert_close(found[2:3], take[what](us[2:3]))


@pytest.mark.parametrize("what", ["values", "scores"])
def test_no_part_begins_after_the_deadline_but_the_sites_of_what_was_drawn_are_there(what):
    density, state, _ = prepared(groups, (Y,), CPU, 0)
    with entered(state), default_dtype(torch.float64):
        us = torch.randn(7, 6, dtype=torch.float64)
        for chart in (decentred(density), Chart(density)):
            assert getattr(chart._replace(by=deadline(60.0, CPU)), what)(us) is not None
            late = chart._replace(by=deadline(-1.0, CPU))
            assert late.sites(us)["mu"].shape == (7,)
            with pytest.raises(OutOfTime):
                getattr(late, what)(us)


def test_parts_are_those_of_the_whole_and_failures_are_nan(monkeypatch):
    density, state, _ = prepared(groups, (Y,), CPU, 0)
    with entered(state), default_dtype(torch.float64):
        chart = decentred(density)
        us = torch.randn(7, 6, dtype=torch.float64)
        whole, values, (_, gradients) = chart.sites(us), chart.values(us), chart.scores(us)
        parts = chart._replace(density=density._replace(chunk=1))
        assert all(torch.equal(v, whole[name]) for name, v in parts.sites(us).items())
        torch.testing.assert_close(parts.values(us), values)
        torch.testing.assert_close(parts.scores(us)[1], gradients)
