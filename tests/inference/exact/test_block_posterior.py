"""What every block's posterior promises: a density that integrates to one, draws of it, and wider draws."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate

from credo.inference.exact.solve import solve
from tests.cases.posterior.problems import problem_of

BLOCKS = {  # a prior, which is its own posterior, and the ends of its support
    "gamma": (lambda: dist.Gamma(3.0, 2.0), (0.0, 40.0)),
    "beta": (lambda: dist.Beta(2.0, 3.0), (0.0, 1.0)),
    "normal": (lambda: dist.Normal(1.0, 0.5), (-9.0, 11.0)),
    "lognormal": (lambda: dist.LogNormal(0.0, 0.5), (0.0, 60.0)),
}


@pytest.fixture(params=BLOCKS)
def block(request, double):
    prior, ends = BLOCKS[request.param]
    (candidate,) = solve(problem_of(lambda: pyro.sample("z", prior())))
    return candidate.posterior, ends, prior()


def test_the_density_integrates_to_one(block):
    q, (low, high), _ = block
    total, _ = integrate.quad(lambda z: q.log_prob({"z": torch.tensor(z)}).exp().item(), low, high, limit=200)
    assert abs(total - 1) < 1e-6


def test_draws_have_the_mean_and_sd_of_the_prior_and_wider_draws_are_wider(block):
    q, _, prior = block
    drawn = q.sample(10_000)["z"]
    assert drawn.shape == (10_000,)
    assert abs(drawn.mean() - prior.mean) < 5 * prior.stddev / 100 and abs(drawn.std() / prior.stddev - 1) < 0.15
    T = torch.distributions.biject_to(prior.support)
    spread = [T.inv(torch.stack([q.sample_wider(w)["z"] for _ in range(500)])).std() for w in (1.0, 2.0)]
    assert spread[1] > 1.5 * spread[0]


def test_the_magnitude_grows_with_the_terms_of_the_density(block):
    """It is at least the change of the log density between two points."""
    q, _, prior = block
    one, two = {"z": prior.mean}, {"z": prior.mean + 0.4}
    change = (q.log_prob(one) - q.log_prob(two)).abs().item()
    T = torch.distributions.biject_to(prior.support)
    jacobian = sum(T.log_abs_det_jacobian(T.inv(z["z"]), z["z"]).abs().item() for z in (one, two))
    assert 0 < change <= q.magnitude(one) + q.magnitude(two) + jacobian
