"""The log joint density: compared with sums of torch's log densities."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.exact.log_joint import LogJoint

torch.manual_seed(0)
NOISE = torch.randn(20)


def kernel_of_unknown_length(x):
    length = pyro.sample("length", dist.Gamma(2.0, 1.0))
    t = torch.arange(20) / 10
    K = torch.exp(-((t[:, None] - t) ** 2) / length**2)
    pyro.sample("x", dist.MultivariateNormal(torch.zeros(20), K + 1e-9 * torch.eye(20)), obs=x)


def test_a_model_that_raises_far_out_is_refused():
    with pytest.raises(credo.NoClosedForm, match="'length'"):
        credo.exact(kernel_of_unknown_length, NOISE)


def counts(y):
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.5))
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Poisson(rate), obs=y)
        pyro.sample("x", dist.Normal(mu, 1.0), obs=y)


Y = torch.tensor([1.0, 0.0, 3.0])
RATE, MU = torch.tensor(1.7, dtype=torch.float64), torch.tensor(-0.4, dtype=torch.float64)


def terms():
    """(log densities of the prior, log densities of the observations)."""
    prior = torch.stack([dist.Gamma(2.0, 0.5).log_prob(RATE), dist.Normal(0.0, 3.0).log_prob(MU)])
    return prior, torch.cat([dist.Poisson(RATE).log_prob(Y), dist.Normal(MU, 1.0).log_prob(Y)])


def test_the_total_is_the_sum_of_all_log_densities_and_the_magnitude_that_of_their_sizes(double):
    prior, seen = terms()
    total, magnitude = LogJoint(counts, (Y,))({"rate": RATE, "mu": MU})
    torch.testing.assert_close(total, prior.sum() + seen.sum())
    assert abs(magnitude - (prior.abs().sum() + seen.abs().sum()).item()) < 1e-6


def test_a_latent_that_is_held_need_not_be_given(double):
    f = LogJoint(counts, (Y,))
    torch.testing.assert_close(f.holding({"mu": MU})({"rate": RATE}).total, f({"rate": RATE, "mu": MU}).total)


def test_another_prior_takes_the_place_of_the_models(double):
    f = LogJoint(counts, (Y,), log_prior=lambda z: -z["rate"] * 3 + z["mu"])
    torch.testing.assert_close(f({"rate": RATE, "mu": MU}).total, terms()[1].sum() - 3 * RATE + MU)
