"""Natural gradients: exact for normals, the least KL in closed form, and no convergence claimed in a funnel."""

import math

import pytest
import torch

from credo.inference.gaussian.full_rank_normal import FullRankNormal
from credo.inference.gaussian.natural_gradient import _longer, average, natural_gradient
from tests.cases.densities import FUNNEL, Target, logistic, normal
from tests.cases.repeats import seeds


def standard_normal(D):
    return FullRankNormal(torch.zeros(D, dtype=torch.float64), torch.eye(D, dtype=torch.float64))


@pytest.mark.parametrize(("D", "condition", "far"), [(1, 1.0, 5.0), (20, 1e2, 5.0), (5, 10.0, 1e6)])
def test_a_normal_is_found_exactly(D, condition, far):
    target, truth = normal(D, condition, far)
    found = natural_gradient(target.scores, standard_normal(D))
    assert found.converged and max(truth.errors(found.normal)) < 1e-6


@pytest.mark.parametrize("seed", seeds(3))
def test_a_gamma_in_logs_gets_the_normal_of_least_kl(seed):
    """log p(u) = a u - b exp(u): E_q[log p] is maximal where b exp(m + s^2 / 2) = a and s^2 = 1 / a."""
    a, b = 5.0, 2.0
    target = Target(lambda u: (a * u - b * u.exp()).sum(), 2)
    found = natural_gradient(target.scores, standard_normal(2), seed=seed)
    sd, mean = a**-0.5, math.log(a / b) - 0.5 / a
    assert found.converged and found.error < 0.015
    assert ((found.normal.mean - mean).abs() / sd).max() < 0.03
    assert (found.normal.sd / sd - 1).abs().max() < 0.03


def test_seeds_agree_to_the_error_that_is_claimed():
    ends = [natural_gradient(logistic().scores, standard_normal(10), seed=seed) for seed in range(4)]
    assert all(end.converged for end in ends)
    means = torch.stack([end.normal.mean / end.normal.sd for end in ends])
    assert means.std(0).max() < 0.02


def test_a_funnel_does_not_converge():
    assert not natural_gradient(FUNNEL.scores, standard_normal(10)).converged


def test_the_average_has_the_mean_covariance(double):
    qs = [FullRankNormal(torch.randn(3), torch.randn(3, 3)) for _ in range(5)]
    whole = average(qs)
    torch.testing.assert_close(whole.covariance, torch.stack([q.covariance for q in qs]).mean(0))
    torch.testing.assert_close(whole.mean, torch.stack([q.mean for q in qs]).mean(0))


def test_without_a_density_nothing_is_claimed():
    found = natural_gradient(lambda us: (us[:, 0] * torch.nan, us * torch.nan), standard_normal(2), iterations=12)
    assert not found.converged and found.error == math.inf


@pytest.mark.parametrize("seed", seeds(4))
def test_a_funnel_is_left_only_at_the_normal_of_least_kl(seed):
    """Of v ~ N(0, 3), x ~ N(0, exp(v / 2)), 9 of them: E_q[v] = 0 and 1 / Var_q(v) = 1 / 9 + 9 / 2, not Var(v) = 9."""
    found = natural_gradient(FUNNEL.scores, standard_normal(10), seed=seed)
    sd = (1 / 9 + 9 / 2) ** -0.5
    assert not found.converged or (abs(found.normal.mean[0]) < 0.1 * sd and abs(found.normal.sd[0] / sd - 1) < 0.05)


@pytest.mark.parametrize(
    ("left", "far", "factor"),
    [(-1.0, True, 0.5), (0.0, True, 1.0), (0.2, True, 1.25), (-0.3, False, 1.5), (-1.2, False, 0.7)],
)
def test_a_step_is_shortened_by_the_secant_of_the_slope_along_it(left, far, factor):
    """A slope that is turned round, of iterates that jump between two places, asks for half of the step."""
    assert _longer(left, 1.0, far) == pytest.approx(factor) and _longer(left, 2.0, far) == 0.5


def test_what_is_asked_without_gradients_has_no_part_in_the_steps():
    asked = []

    def values(us):
        asked.append(len(us))
        return logistic().scores(us)[0], torch.full_like(us, torch.nan)

    found = natural_gradient(logistic().scores, standard_normal(10), values=values)
    assert found.converged and asked == [1000]
