"""Fits of models with finite latents summed out: compared with EM, quadrature and the likelihood of each row."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.predictive.likelihood import log_likelihood
from credo.inference.runtime.generators import noise
from tests.cases.summed_out.mixtures import X, guide, normal, one_for_all, prior, weights
from tests.cases.summed_out.sequences import WORDS, lda, lda_guide

pytestmark = pytest.mark.usefixtures("double")


def em(x, loc, w, rounds=500):
    """The maximum of sum_n log sum_k w_k N(x_n; loc_k, 1), by EM in NumPy."""
    for _ in range(rounds):
        joint = w * np.exp(-0.5 * (x[:, None] - loc) ** 2)
        share = joint / joint.sum(1, keepdims=True)
        loc, w = (share * x[:, None]).sum(0) / share.sum(0), share.mean(0)
    return loc, w


def two_groups():
    with noise(1):
        return torch.cat([torch.randn(60) - 3, torch.randn(140) + 2])


def free_mixture(x):
    w = pyro.sample("w", dist.Dirichlet(torch.ones(2)))
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 5.0).to_event(1))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Categorical(w))
        pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)


def test_maximum_likelihood_of_a_mixture_is_that_of_em():
    x = two_groups()
    fit = credo.fit(free_mixture, "mle", x, steps=600, progress=False)
    q = fit.sample(1)
    loc, w = em(x.numpy(), np.array([-1.0, 1.0]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(q["loc"][0].sort().values, np.sort(loc), atol=2e-3)
    np.testing.assert_allclose(q["w"][0][q["loc"][0].argsort()], w[np.argsort(loc)], atol=2e-3)


def test_the_automatic_guide_recovers_the_components_and_draws_the_finite_site_given_the_data():
    x = two_groups()
    fit = credo.fit(free_mixture, None, x, steps=600, progress=False)
    q = fit.sample(2000)
    assert q.keys() == {"w", "loc", "z"}
    order = q["loc"].mean(0).argsort()
    loc, w = em(x.numpy(), np.array([-1.0, 1.0]), np.array([0.5, 0.5]))
    n = torch.tensor([60.0, 140.0])
    assert ((q["loc"].mean(0)[order] - torch.tensor(np.sort(loc))).abs() < 0.5 / n.sqrt()).all()
    torch.testing.assert_close(q["loc"].std(0)[order], 1 / n.sqrt(), rtol=0.25, atol=0)
    torch.testing.assert_close(q["w"].mean(0)[order], torch.tensor(w[np.argsort(loc)]), rtol=0, atol=0.03)
    own = (q["w"].log()[:, None] + normal(x[None, :, None], q["loc"][:, None])).softmax(-1).mean(0)  # (rows, values)
    shares = torch.stack([(q["z"] == k).double().mean(0) for k in range(2)], -1)
    assert ((shares - own).abs() <= 5 * (own * (1 - own) / 2000).sqrt() + 2 / 2000).all()
    new = fit.predict(2000, x + 0.0, prior=False)
    assert torch.equal(new["z"], fit.predict(2000)["z"])
    share = (new["z"] == order[1]).double().mean()
    torch.testing.assert_close(share, q["w"].mean(0)[order[1]], rtol=0, atol=0.02)
    torch.testing.assert_close(new["x"].mean(), x.mean(), rtol=0, atol=0.2)


def test_a_model_of_finite_sites_and_parameters_alone_needs_no_guide():
    def model(x):
        m, w = pyro.param("m", torch.tensor([-1.0, 1.0])), weights()
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(m[z], 1.0), obs=x)

    x = two_groups()
    fit = credo.fit(model, None, x, progress=False)
    loc, w = em(x.numpy(), np.array([-1.0, 1.0]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(fit.params["m"], loc, atol=2e-3)
    np.testing.assert_allclose(fit.params["w"], w, atol=2e-3)


class ByQuadrature:
    """The exact posterior of one mean, the other known, on a grid."""

    def __init__(self, x):
        grid = torch.linspace(-8, 8, 4001)
        joint = dist.Normal(0.0, 3.0).log_prob(grid)
        for v in x:
            joint = joint + torch.stack(
                [math.log(0.4) + normal(v, grid), math.log(0.6) + normal(v, 1.5).expand(4001)]
            ).logsumexp(0)
        self.log_evidence = (joint.logsumexp(0) + (grid[1] - grid[0]).log()).item()
        p = (joint - joint.logsumexp(0)).exp()
        mean = (p * grid).sum()
        self.marginals = {"loc": dist.Normal(mean, (p * (grid - mean) ** 2).sum().sqrt())}


def half_known(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 3.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Bernoulli(0.6))
        pyro.sample("x", dist.Normal(torch.where(z > 0, 1.5, loc), 1.0), obs=x)


def test_the_evidence_gap_is_that_of_quadrature():
    x = torch.cat([two_groups()[:20], two_groups()[-20:]])
    fit = credo.fit(half_known, None, x, progress=False)
    table = credo.compare(fit, ByQuadrature(x))
    assert table["kl"].iloc[0] < 0.01
    assert -4 * table.attrs["elbo_error"] - 1e-3 < table.attrs["evidence_gap"] < 0.02


def test_the_likelihood_of_a_row_sums_its_site_out():
    x = two_groups()[50:70]
    fit = credo.fit(half_known, None, x, steps=200, progress=False)
    found = log_likelihood(fit, 4000)
    loc = fit.sample(20000)["loc"]
    rows = torch.stack([math.log(0.4) + normal(x, loc[:, None]), math.log(0.6) + normal(x, 1.5).expand(20000, -1)])
    wanted = rows.logsumexp(0).logsumexp(0) - math.log(20000)
    assert ((found.values - wanted).abs() < 5 * found.errors + 1e-2).all()
    fit = credo.fit(lda, lda_guide, WORDS, steps=5, progress=False)
    assert log_likelihood(fit, 10).values.shape == (3,)


def test_the_likelihood_of_rows_that_share_a_site_is_refused():
    fit = credo.fit(one_for_all, guide, X, steps=5, progress=False)
    with pytest.raises(
        ValueError, match=r"site 'z': summed out of the model, outside of the plate over rows .* likelihood of its own"
    ):
        log_likelihood(fit, 10)


def test_observations_left_out_are_not_summed_out():
    def model(x, y=None):
        loc, w = prior(), weights()
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)
            pyro.sample("y", dist.Bernoulli(0.2 + 0.5 * z), obs=y)

    fit = credo.fit(model, guide, X, torch.tensor([0.0, 1.0, 1.0, 1.0]), steps=5, progress=False)
    with pytest.raises(ValueError, match="site 'y' is not observed"):
        log_likelihood(fit, 10, X)
