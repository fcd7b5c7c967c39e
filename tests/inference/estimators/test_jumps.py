"""Ways between draws on which the log density jumps, in whatever numbers, and ways on which it only seems to."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.nn import functional

from credo.inference.estimators.jumps import JUMPS, Points, _left, rough_sites
from credo.inference.pair.pair import Pair
from credo.inference.runtime.sites import drawn_sites


def cause(density, q, one_by_one=False):
    """Why a draw from q must not be differentiated in this log density, or None."""

    def model():
        z = pyro.sample("z", q())
        pyro.factor("y", density(z))

    def guide():
        pyro.sample("z", q())

    with pyro.validation_enabled(False):  # as in a run
        sites = drawn_sites(poutine.trace(guide).get_trace())
        return rough_sites(Pair(model, guide, ()), sites, {}, {}, not one_by_one).get("z")


def normal(loc=0.0, scale=1.0):
    return lambda: dist.Normal(torch.tensor(loc), torch.tensor(scale))


COUNTS = torch.arange(960.0, 1040.0)
IMAGE = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))


def seen_through_a_window(z):
    """A picture read at places between its pixels: hundreds of kinks."""
    x, y = torch.meshgrid(torch.linspace(-0.9, 0.9, 12) + z, torch.linspace(-0.9, 0.9, 12), indexing="xy")
    grid = torch.stack([x, y], -1)[None]
    return -8 * functional.grid_sample(IMAGE, grid, align_corners=False).square().sum()


SMOOTH = {
    "narrow": (lambda z: -5e7 * (z - 1) ** 2, normal(1.0, 1e-4)),
    "narrow, far from zero": (lambda z: -5e5 * (z - 30) ** 2, normal(30.0, 1e-3)),
    "large counts": (lambda z: dist.Poisson(z.exp()).log_prob(COUNTS).sum(), normal(6.9, 0.004)),
    "large constant": (lambda z: 1e4 - z**2 / 2, normal()),
    "window over a picture": (seen_through_a_window, normal(0.0, 0.3)),
    "two hundred kinks": (lambda z: torch.relu((z - torch.linspace(-3, 3, 200)) * 9).sum().sqrt(), normal()),
}
ROUGH = {
    "narrow step": (lambda z: -5e7 * (z - 1) ** 2 + 2.0 * (z > 1), normal(1.0, 1e-4)),
    "step between large counts": (
        lambda z: dist.Poisson(z.exp()).log_prob(COUNTS).sum() + 9.0 * (z > 6.9),
        normal(6.9, 0.004),
    ),
    "step in a window over a picture": (lambda z: seen_through_a_window(z) + 20.0 * (z > 0), normal(0.0, 0.3)),
    "detached": (lambda z: -((z + z.detach()) ** 2), normal()),
    "kinks and many steps": (lambda z: torch.relu(z - torch.linspace(-2, 2, 40)).sum() + (9 * z).floor(), normal()),
}


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("name", SMOOTH)
def test_a_way_without_jumps(name, one_by_one):
    assert cause(*SMOOTH[name], one_by_one) is None


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("name", ROUGH)
def test_a_way_with_jumps(name, one_by_one):
    assert cause(*ROUGH[name], one_by_one) == JUMPS


def test_a_density_that_fails_far_out_is_looked_at_between_the_draws():
    """A matrix that is positive definite for small z only."""

    def near(z):
        return -torch.linalg.cholesky(torch.eye(2) + 0.25 * z * torch.tensor([[0.0, 1.0], [1.0, 0.0]])).sum()

    assert cause(near, normal(0.0, 0.8)) is None
    assert cause(lambda z: near(z) + 2.0 * (z > 0), normal(0.0, 0.8)) == JUMPS
    assert "cannot be computed between its draws (linalg.cholesky" in cause(lambda z: near(z + 9), normal(0.0, 0.8))


def test_what_is_left_over_of_a_parabola_and_of_a_step():
    u = torch.linspace(0, 1, 5)[:, None]
    step = (u[:, 0] > 0.6).double()
    points = Points(u[:, 0].double(), u[:, 0].double() ** 2 + step, u, 2 * u)
    left = _left(points.some(slice(None, -1)), points.some(slice(1, None)))
    assert left.tolist() == pytest.approx([0, 0, 1, 0], abs=1e-6)
