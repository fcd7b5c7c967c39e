"""Batch and match beside normals, and beside its own equations as the paper writes them."""

import pytest
import torch

from credo.inference.gaussian.batch_and_match import _matched, batch_and_match
from credo.inference.gaussian.full_rank_normal import FullRankNormal
from tests.cases.densities import FUNNEL, logistic, normal
from tests.cases.repeats import seeds


def standard_normal(D):
    return FullRankNormal(torch.zeros(D, dtype=torch.float64), torch.eye(D, dtype=torch.float64))


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize(("D", "condition"), [(1, 1.0), (20, 1e6), (200, 1e4)])
def test_a_normal_is_found_exactly(D, condition, seed):
    """From a start a thousand times too narrow in places, some of the smallest sds away."""
    target, truth = normal(D, condition, far=5 * condition**-0.5)
    found = batch_and_match(target.scores, standard_normal(D), batch=64, seed=seed)
    assert found.settled and found.residual < 1e-8
    assert max(truth.errors(found.normal)) < 1e-6


@pytest.mark.parametrize("seed", seeds(2))
def test_from_far_away_it_does_not_claim_to_have_settled(seed):
    target, truth = normal(20, 1e6)
    found = batch_and_match(target.scores, standard_normal(20), seed=seed)
    assert not found.settled or max(truth.errors(found.normal)) < 1e-6


def test_a_step_is_the_papers(double):
    """The two equations of Cai et al. 2024 for Sigma and mu, in the coordinates of u: Sigma U Sigma + Sigma = V."""
    D, B, rate = 3, 5, 4.0
    q = FullRankNormal(torch.randn(D), torch.randn(D, D))
    e, g = torch.randn(B, D), torch.randn(B, D)
    u, mu, S = q.at(e), q.mean, q.covariance
    centre, slope = u.mean(0), g.mean(0)
    C, G = (u - centre).T @ (u - centre) / B, (g - slope).T @ (g - slope) / B
    U = rate * G + rate / (1 + rate) * torch.outer(slope, slope)
    V = S + rate * C + rate / (1 + rate) * torch.outer(mu - centre, mu - centre)
    found = q.moved(*_matched(e, g @ q.factor, rate))
    torch.testing.assert_close(found.covariance @ U @ found.covariance + found.covariance, V)
    wanted = mu / (1 + rate) + rate / (1 + rate) * (found.covariance @ slope + centre)
    torch.testing.assert_close(found.mean, wanted)


def test_a_posterior_that_is_no_normal_keeps_a_residual():
    near = batch_and_match(logistic().scores, standard_normal(10))
    far = batch_and_match(FUNNEL.scores, standard_normal(10))
    assert near.settled and 1e-3 < near.residual < 0.3 < far.residual
    assert near.gradients == 32 * near.iterations


def test_draws_without_a_density_are_left_out():
    def half(us):
        values, gradients = target.scores(us)
        return torch.where(us[:, 0] > 60, torch.nan, values), gradients

    target, truth = normal(2, 10.0)
    wide = standard_normal(2)._replace(factor=100 * torch.eye(2, dtype=torch.float64))
    assert max(truth.errors(batch_and_match(half, wide).normal)) < 1e-6


def test_a_start_without_any_density_does_not_settle():
    found = batch_and_match(lambda us: (us[:, 0] * torch.nan, us * torch.nan), standard_normal(2), iterations=20)
    assert not found.settled and found.residual == torch.inf
