"""Pareto k-hat of tails of known shape, and evidence and means by smoothed weights beside exact ones."""

import math

import pytest
import torch

from credo.inference.gaussian.psis import generalised_pareto, importance, weighted_moments
from tests.cases.repeats import seeds


@pytest.mark.parametrize("k", [-0.4, 0.3, 0.7, 1.2])
def test_the_shape_of_a_generalised_pareto_is_found(k):
    noise = torch.Generator().manual_seed(0)
    uniform = torch.rand(20_000, generator=noise, dtype=torch.float64)
    x = 3.0 * ((1 - uniform) ** -k - 1) / k
    shape, scale = generalised_pareto(x.sort().values)
    assert shape == pytest.approx(k, abs=0.05) and scale == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_k_hat_is_that_of_the_weights(k):
    """Weights (1 - U)^-k are Pareto of shape k in all their range."""
    noise = torch.Generator().manual_seed(1)
    uniform = torch.rand(40_000, generator=noise, dtype=torch.float64)
    found = importance(-k * torch.log1p(-uniform))
    assert found.k_hat == pytest.approx(k, abs=0.12)
    assert found.reliable == (k < 0.7)


@pytest.mark.parametrize("seed", seeds(5))
def test_the_evidence_of_a_normal_by_draws_of_a_wider_one(seed):
    """p = N(1, 1) times exp(2), q = N(0, 1.5)."""
    noise = torch.Generator().manual_seed(seed)
    u = 1.5 * torch.randn(4000, generator=noise, dtype=torch.float64)
    ratios = 2 - (u - 1) ** 2 / 2 + u**2 / 4.5 + math.log(1.5)
    found = importance(ratios)
    assert found.reliable and found.log_weights.logsumexp(0).item() == pytest.approx(0.0, abs=1e-9)
    assert abs(found.log_evidence - 2) < 4 * found.log_evidence_error < 0.1
    mean, sd = weighted_moments(found.log_weights, u[:, None])
    assert mean.item() == pytest.approx(1.0, abs=0.1) and sd.item() == pytest.approx(1.0, abs=0.1)
    assert 1500 < found.ess < 4000


def test_draws_of_p_itself_have_equal_weights():
    found = importance(torch.full((1000,), 3.0))
    assert found.k_hat == -math.inf and found.reliable
    assert found.ess == pytest.approx(1000) and found.log_evidence == pytest.approx(3.0)
    assert found.log_evidence_error < 1e-6


def test_a_narrow_normal_is_not_reliable():
    """q = N(0, .5) for p = N(0, 1): the weights have no mean of their squares, k = 3/4."""
    u = 0.5 * torch.randn(20_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert importance(-(u**2) / 2 + 2 * u**2).k_hat > 0.6


def test_too_few_or_no_weights_tell_nothing():
    assert importance(torch.randn(8)).k_hat == math.inf
    nothing = importance(torch.full((100,), -torch.inf))
    assert not nothing.reliable and math.isnan(nothing.log_evidence)


def test_a_draw_without_density_weighs_nothing():
    ratios = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ratios[:100] = torch.nan
    found = importance(ratios)
    assert (found.log_weights[:100] == -torch.inf).all() and found.k_hat < 0.7


def test_weights_that_are_nearly_even_are_reliable_whatever_their_tail():
    """One weight a hundredth above the others, which are equal but for rounding: the tail has no shape."""
    ratios = 1e-9 * torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ratios[5] = 0.01
    found = importance(ratios)
    assert found.k_hat > 0.7 and found.reliable


def test_even_weights_are_said_to_be_even_whatever_the_shape_of_their_tail():
    assert importance(torch.zeros(1000)).words == "even weights, 100% effective"
    heavy = importance(2.0 * torch.randn(1000, generator=torch.Generator().manual_seed(0)).double())
    assert heavy.words == f"k-hat {heavy.k_hat:.2f}"
