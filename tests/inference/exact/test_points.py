"""Points at which a closed form is checked: how wide, how even and how far out they are."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import credo
from credo.inference.exact.points import distinct, even, near, scattered, wide
from credo.inference.exact.solve import solve
from tests.cases.posterior.problems import problem_of


@pytest.fixture
def solved(double):
    """A posterior N(0.8, 0.2) of z, and Beta(3, 3) of p beside it."""

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        p = pyro.sample("p", dist.Beta(2.0, 3.0))
        pyro.sample("y", dist.Normal(z, 0.5), obs=torch.tensor(1.0))
        pyro.sample("flip", dist.Bernoulli(p), obs=torch.tensor(1.0))

    problem = problem_of(model)
    return problem, solve(problem)


@pytest.mark.parametrize("width", [1.0, 3.0])
def test_draws_are_of_the_posterior_times_the_width(width, solved):
    z = torch.stack([near(*solved, width)["z"] for _ in range(1000)])
    sd = width * 0.2**0.5
    assert abs(z.mean() - 0.8) < 5 * sd / 1000**0.5 and abs(z.std() / sd - 1) < 0.12


def test_even_points_leave_no_gap_in_any_coordinate(solved):
    """Within two sds of the posterior."""
    assert even(*solved, 0) == []
    points = torch.stack(even(*solved, 200))
    assert points.shape == (200, 2) and points.isfinite().all()
    z = points[:, 0].sort().values
    inside = z[(z > 0.8 - 2 * 0.2**0.5) & (z < 0.8 + 2 * 0.2**0.5)]
    assert len(inside) > 50 and inside.diff().max() < 0.1


def test_far_points_lie_on_both_sides_of_each_coordinate(solved):
    points = torch.stack(wide(*solved))
    assert points.isfinite().all()
    assert (points[:, 0].max() > 1e2) and (points[:, 0].min() < -1e2)  # thousands of sds away
    assert (points[:, 1].max() > 20) and (points[:, 1].min() < -20)  # logits
    p = solved[0].coordinates.values(points[0])["p"]
    assert 0 < p < 1


@pytest.mark.parametrize("place", [8.5, -9.0])
def test_a_bump_far_in_the_tails_of_the_prior_is_refused(place):
    """log p(data) = log(1 + 1e18 N(place; 0, 1.01) .1 sqrt(2 pi)), 3.4 nats at 8.5: nearly all of the mass is there."""

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("bump", torch.log1p(1e18 * torch.exp(-(((z - place) / 0.1) ** 2) / 2)))

    with pytest.raises(credo.NoClosedForm, match="site 'z'"):
        credo.exact(model)


def test_points_that_nearly_coincide_are_one():
    x = torch.randn(50, 3, dtype=torch.float64)
    assert distinct(x) == 50 and distinct(torch.cat([x, x, x * (1 + 1e-12)])) == 50
    assert distinct(torch.cat([x, x + 1e-3])) == 100


def test_the_first_point_of_each_place_is_kept():
    """Of two places, 5 prior sds apart, the second comes after a hundred points in the first."""
    prior = 2 * torch.randn(1000, 2, dtype=torch.float64)
    first = 1e-3 * torch.randn(100, 2, dtype=torch.float64)
    other = torch.tensor([[0.0, 10.0]], dtype=torch.float64)
    found = scattered(prior, torch.cat([first, other]), 8)
    assert len(found) == 2 and torch.equal(found[0], first[0]) and torch.equal(found[1], other[0])
    assert len(scattered(prior, 20 * torch.arange(30.0, dtype=torch.float64)[:, None].expand(30, 2), 8)) == 8
    assert scattered(prior, first[:0], 8) == []
