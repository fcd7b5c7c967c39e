"""What belongs to each draw: log densities and likelihoods of rows, compared with the same by hand."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.predictive.pointwise import Points, at_points, guide_points, observations, wanted_beyond
from credo.inference.runtime.state import reading

X = torch.tensor([2.5, -3.5, 3.0, -2.0])
WEIGHTS = torch.tensor([0.3, 0.7])


def mixture(x):
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-3.0, 3.0]), 1.0).to_event(1))
    pyro.deterministic("gap", loc[..., 1] - loc[..., 0])
    with pyro.plate("N", len(x)):
        k = pyro.sample("k", dist.Categorical(WEIGHTS))
        pyro.sample("x", dist.Normal(loc[k], 1.0), obs=x)


def guide(x):
    pyro.sample("loc", dist.Normal(pyro.param("m", torch.tensor([-3.0, 3.0])), 0.5).to_event(1))


def local(x):
    pyro.factor("pull", torch.tensor(-1.5))
    with pyro.plate("N", len(x)):
        u = pyro.sample("u", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(u, 1.0), obs=x)


@pytest.fixture(scope="module")
def fit() -> credo.Fit:
    return credo.fit(mixture, guide, X, steps=2, progress=False)


def found_at(fit, n=50):
    beyond = wanted_beyond(fit, n, 0)
    with reading(fit.state, 0), torch.no_grad():
        points = guide_points(fit, n)
        return points, at_points(fit, points, beyond), observations(fit)


def test_finite_latents_are_summed_out_of_the_likelihood_of_a_row(fit):
    points, found, seen = found_at(fit)
    loc = points.values["loc"]
    each = dist.Normal(loc[:, None, :], 1.0).log_prob(X[:, None]) + WEIGHTS.log()
    torch.testing.assert_close(found.log_likelihood["x"], each.logsumexp(-1))
    prior = dist.Normal(torch.tensor([-3.0, 3.0]), 1.0).log_prob(loc).sum(-1)
    torch.testing.assert_close(found.log_joint.float(), prior + each.logsumexp(-1).sum(-1))
    log_q = dist.Normal(fit.params["m"], 0.5).log_prob(loc).sum(-1)
    torch.testing.assert_close(points.log_q.float(), log_q)
    torch.testing.assert_close(found.values["gap"], loc[:, 1] - loc[:, 0])
    assert found.values["k"].shape == (50, 4) and (found.values["k"] == (X > 0)).float().mean() > 0.9
    assert seen.keys() == {"x"} and points.size == 50


def test_latents_of_rows_that_the_guide_draws_are_held():
    fit = credo.fit(local, "mean_field", X, steps=2, progress=False)
    points, found, seen = found_at(fit)
    u = points.values["u"]
    torch.testing.assert_close(found.log_likelihood["x"], dist.Normal(u, 1.0).log_prob(X))
    prior = dist.Normal(0.0, 1.0).log_prob(u).sum(-1)
    wanted = prior + found.log_likelihood["x"].sum(-1) - 1.5  # the factor counts, but it observes nothing
    torch.testing.assert_close(found.log_joint.float(), wanted)
    assert seen.keys() == {"x"} == found.log_likelihood.keys()


def test_a_guide_of_the_family_of_the_posterior_has_log_p_less_log_q_constant():
    def model(y):
        pyro.sample("y", dist.Normal(pyro.sample("s", dist.LogNormal(0.0, 1.0)).log(), 1.0), obs=y)

    fit = credo.fit(model, "full_rank", torch.tensor(1.0), progress=False)
    points, found, _ = found_at(fit)
    gap = found.log_joint - points.log_q  # log p(y): y ~ N(0, sqrt(2))
    torch.testing.assert_close(gap, torch.full_like(gap, -0.25 - 0.5 * math.log(4 * math.pi)), atol=1e-3, rtol=0)


def test_draws_at_once_have_no_density_at_hand():
    fit = credo.fit(local, None, X, progress=False)
    points, found, _ = found_at(fit)
    assert points.log_q is None and found.log_joint.shape == (50,)


def test_a_latent_with_masked_entries_follows_the_model():
    def masked(x, m):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("x", dist.Normal(z + 50.0, 1.0), obs=x, obs_mask=m)

    m = torch.tensor([True, True, False, True])
    fit = credo.fit(masked, "mean_field", X + 50.0, m, steps=2, progress=False)
    _, found, _ = found_at(fit)
    assert (found.values["x_unobserved"][:, [0, 1, 3]] > 40.0).all()  # where x was observed, they are drawn anew
    assert found.log_likelihood["x_observed"].shape == (50, 4)
    assert (found.log_likelihood["x_observed"][:, 2] == 0).all()


def test_draws_without_a_latent_are_counted():
    fit = credo.fit(mixture, guide, X, steps=0, progress=False)
    points = Points({"loc": torch.tensor([[-3.0, 3.0]]).expand(3, 2)}, 3)
    with reading(fit.state, 0), torch.no_grad():
        assert at_points(fit, points, frozenset(), rows=False).log_likelihood == {}
