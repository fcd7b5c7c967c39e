"""Where chains start: in every mode that matters, with the mass matrix of the posterior."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.gaussian.density import density
from credo.inference.gaussian.full_rank import dispersed
from credo.inference.gaussian.full_rank_normal import FullRankNormal
from credo.inference.gaussian.starts import Path
from credo.inference.mcmc.starts import MOST, spread, starts
from tests.cases.repeats import seeds

Y = torch.tensor([1.0, -0.5, 2.0])


def line(y):
    """A normal posterior of two latents, correlated and in unlike units."""
    w = pyro.sample("w", dist.Normal(torch.zeros(2), torch.tensor([1.0, 1e4])).to_event(1))
    pyro.sample("y", dist.Normal(w[0] * torch.arange(3.0) + 1e-4 * w[1], 0.1).to_event(1), obs=y)


def test_the_mass_matrix_is_that_of_a_normal_posterior(double):
    found = starts(density(line, (Y.double(),), None), 4, seed=0)
    A = torch.stack([torch.arange(3.0), torch.full((3,), 1e-4)], 1)
    S = torch.linalg.inv(A.T @ A / 0.01 + torch.diag(torch.tensor([1.0, 1e-8])))
    torch.testing.assert_close(found.factor @ found.factor.T, S, rtol=1e-5, atol=0.0)
    away = torch.linalg.solve(torch.linalg.cholesky(S), (found.us - (S @ A.T @ Y.double() / 0.01)).T)
    assert away.abs().max() < 5 and away.std() > 0.2  # draws of the posterior, not one point


@pytest.mark.parametrize("seed", seeds(3))
def test_chains_start_in_both_modes(seed, double):
    def square(y):
        z = pyro.sample("z", dist.Normal(0.0, 3.0))
        pyro.sample("y", dist.Normal((z - 1) ** 2, 0.3), obs=y)

    us = starts(density(square, (torch.tensor(9.0),), None), 4, seed).us
    assert (us > 3).any() and (us < -1).any()  # 4 and -2


def test_a_mode_without_mass_gets_no_chain():
    """Two normals with these log masses, far from each other."""

    def path(at, elbo):
        return Path(FullRankNormal(torch.tensor([at]), torch.ones(1, 1)), elbo, torch.tensor([at]), 0)

    def means(paths):
        return [p.normal.mean.item() for p in spread(paths, 4)]

    assert means([path(0.0, -1.0), path(20.0, -50.0)]) == [0.0] * 4
    assert means([path(0.0, -1.0), path(0.1, -1.5), path(20.0, -8.0)]) == [
        0.0,
        pytest.approx(20.0),
        pytest.approx(0.1),
        0.0,
    ]


def test_many_latents_start_at_dispersed_points(double):
    def wide(y):
        z = pyro.sample("z", dist.Normal(torch.zeros(MOST + 1), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(z.sum(), 1.0), obs=y)

    found = starts(density(wide, (torch.tensor(1.0),), None), 4, seed=0)
    assert found.us.shape == (4, MOST + 1) and torch.equal(found.factor, torch.ones(MOST + 1))
    assert torch.equal(found.us[1], -found.us[0])


def test_a_spike_at_scale_zero_is_no_place_to_start(double):
    """Eight schools, centred: the density rises without end as tau goes to 0, where no mass is."""
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def schools(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("J", len(y)):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, sigma), obs=y)

    with pyro.validation_enabled(False):
        us = starts(density(schools, (y,), None), 4, seed=0).us
    assert (us[:, 1] > math.log(0.05)).all()


def coin(flips):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("N", len(flips)):
        pyro.sample("flips", dist.Bernoulli(p), obs=flips)


def test_each_second_chain_starts_at_minus_the_one_before():
    points = dispersed(density(coin, (torch.tensor([1.0, 1.0, 0.0, 1.0]),), None), 4)
    assert points.shape == (4, 1) and (points.abs() <= 2).all()
    assert torch.equal(points[1::2], -points[::2]) and points[0] != points[2]
