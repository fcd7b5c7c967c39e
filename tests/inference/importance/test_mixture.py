"""Mixtures beside quadrature and their own draws."""

import math

import pytest
import torch

from credo.inference.gaussian.full_rank_normal import FullRankNormal
from credo.inference.importance.mixture import NORMAL, NU, fitted, lower, mixture

A = FullRankNormal(torch.tensor([1.0, -2.0]).double(), torch.tensor([[1.0, 0.4], [0.0, 0.7]]).double())
B = FullRankNormal(torch.tensor([-4.0, 3.0]).double(), torch.tensor([[0.5, 0.0], [0.3, 1.5]]).double())
BOTH = mixture([A, B], [2.0, 1.0], [NORMAL, 12.0], [1.0, 1.5])


def grid(n=400, wide=40.0):
    x = torch.linspace(-wide, wide, n, dtype=torch.float64)
    return torch.cartesian_prod(x, x), (x[1] - x[0]) ** 2


def test_the_density_integrates_to_one_and_has_the_moments_of_its_draws():
    us, cell = grid()
    p = BOTH.log_prob(us).exp() * cell
    assert p.sum().item() == pytest.approx(1.0, abs=1e-3)  # a Student distribution has mass beyond the grid
    drawn = BOTH.sample(40_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), p @ us, atol=0.08, rtol=0)
    torch.testing.assert_close(drawn.std(0), (p @ (us - p @ us).square()).sqrt(), atol=0.0, rtol=0.03)


def test_shares_and_tails_are_those_asked_for():
    drawn = BOTH.sample(3000, torch.Generator().manual_seed(1))
    near = BOTH.log_probs(drawn).argmax(1)
    assert (near == 0).double().mean().item() == pytest.approx(2 / 3, abs=0.02)
    one = mixture([A], [1.0], [NU], [1.0])
    e = torch.linalg.solve_triangular(
        one.factors[0], (one.sample(20_000, torch.Generator().manual_seed(2)) - A.mean).T, upper=False
    )
    assert e.abs().max() > 8  # a normal has none beyond 5


def test_a_factor_of_any_shape_is_taken():
    L = lower(B.factor)
    torch.testing.assert_close(L @ L.T, B.covariance)
    assert torch.equal(L, L.tril())


def test_two_clusters_are_found_from_weighted_draws():
    """Draws of a wide normal, weighted to two narrow ones."""
    noise = torch.Generator().manual_seed(3)
    us = 6 * torch.randn(20_000, 2, generator=noise, dtype=torch.float64)
    target = mixture([A, B], [1.0, 1.0], [NORMAL, NORMAL], [1.0, 1.0])
    logs = target.log_prob(us) + us.square().sum(1) / 72
    found = fitted(us, logs.softmax(0), 2, noise)
    order = found.means[:, 0].argsort(descending=True)
    torch.testing.assert_close(found.means[order], target.means, atol=0.15, rtol=0)
    divergence = (target.log_prob(us) - found.log_prob(us)) @ logs.softmax(0)
    assert 0 < divergence < 0.1  # Student distributions are no normals


def test_a_mixture_in_other_units_is_the_same():
    noise = torch.Generator().manual_seed(4)
    us = torch.randn(2000, 2, generator=noise, dtype=torch.float64)
    weights = torch.full((2000,), 1 / 2000, dtype=torch.float64)
    units = torch.tensor([1e-6, 1e6], dtype=torch.float64)
    one = fitted(us, weights, 3, torch.Generator().manual_seed(5)).log_prob(us)
    other = fitted(us * units, weights, 3, torch.Generator().manual_seed(5)).log_prob(us * units)
    torch.testing.assert_close(one, other + units.log().sum(), atol=1e-3, rtol=0)
    assert math.isfinite(one.sum().item())
