"""The log density in unconstrained coordinates, and random points, of a model with two latents."""

import pyro
import pyro.distributions as dist
import torch

from tests.cases.posterior.problems import problem_of

COUNT = torch.tensor(3.0)


def model(count):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    pyro.sample("count", dist.Poisson(rate), obs=count)
    pyro.sample("seen", dist.Normal(mu, 1.0), obs=count)


def test_the_log_density_is_the_joint_density_and_the_jacobian(double):
    x = torch.tensor([0.5, -0.7])
    rate = x[1].exp()
    by_hand = dist.Normal(0.0, 10.0).log_prob(x[0]) + dist.Gamma(2.0, 1.0).log_prob(rate)
    by_hand = by_hand + dist.Poisson(rate).log_prob(COUNT) + dist.Normal(x[0], 1.0).log_prob(COUNT) + x[1]
    torch.testing.assert_close(problem_of(model, COUNT).log_density(x), by_hand)


def test_random_points_are_as_wide_as_the_prior_times_the_width(double):
    problem = problem_of(model, COUNT)
    spread = [torch.stack([problem.scattered(width) for _ in range(400)]).std(0) for width in (1.0, 5.0)]
    assert 4 < spread[1][0] / spread[0][0] < 6  # a real latent
    assert 0.8 < spread[1][1] / spread[0][1] < 1.2  # a positive one: several units, whatever the width


def test_only_the_named_sites_are_varied(double):
    problem, x = problem_of(model, COUNT), torch.tensor([0.5, -0.7])
    varied = problem.varied(x, ("rate",))
    assert varied[0] == x[0] and varied[1] != x[1]
