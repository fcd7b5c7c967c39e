"""The best normal of a family on fixed draws, beside closed forms, and the error that it says it has."""

import math

import pytest
import torch

from credo.inference.gaussian.families import mean_field
from credo.inference.gaussian.fixed_draws import draws, on_fixed_draws
from credo.inference.gaussian.full_rank_normal import FullRankNormal
from tests.cases.repeats import seeds

SHAPE, RATE = 3.0, 5.0


def gamma(us):
    """The logarithm of a Gamma(3, 5): log p = a u - b exp(u)."""
    return (SHAPE * us - RATE * us.exp()).sum(-1), SHAPE - RATE * us.exp()


def near(mean, sd):
    return FullRankNormal(torch.tensor([mean], dtype=torch.float64), torch.tensor([[sd]], dtype=torch.float64))


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("start", [(0.0, 1.0), (-3.0, 0.1), (4.0, 2.0)], ids=["near", "below", "far"])
def test_the_optimum_of_a_gamma_in_logs(start, seed):
    """E_q[exp(u)] = exp(mu + s^2 / 2): s^2 = 1 / a, mu = log(a / b) - 1 / (2 a)."""
    found = on_fixed_draws(gamma, [mean_field(near(*start))], seed=seed)
    sd = SHAPE**-0.5
    assert found.converged and found.error < 0.02
    assert abs(found.normal.mean.item() - (math.log(SHAPE / RATE) - 0.5 / SHAPE)) < 0.02 * sd
    assert abs(found.normal.sd.item() / sd - 1) < 0.02
    elbo = SHAPE * (math.log(SHAPE / RATE) - 0.5 / SHAPE) - SHAPE + math.log(sd) + (1 + math.log(2 * math.pi)) / 2
    assert found.elbo == pytest.approx(elbo, abs=0.01)


def test_draws_that_are_too_few_are_said_to_be():
    found = on_fixed_draws(gamma, [mean_field(near(0.0, 1.0))], largest=64)
    assert not found.converged and found.error == math.inf
    assert not found.converged and abs(found.normal.sd.item() * SHAPE**0.5 - 1) < 0.2  # the optimum of 64 draws


@pytest.mark.parametrize(("width", "converged"), [(0.3, True), (3.0, False)])
def test_a_funnel_whose_few_draws_disagree_is_not_converged(width, converged):
    """t ~ Normal(0, width), z ~ Normal(0, exp(t)) in 9 dimensions; z is seen with an sd of 1."""

    def scores(us):
        t, z = us[:, :1], us[:, 1:]
        squares = z.square() * (-2 * t).exp()
        values = -t.square() / width**2 / 2 - (squares + 2 * t + (z - 1).square()).sum(-1, keepdim=True) / 2
        slope = -t / width**2 + (squares - 1).sum(-1, keepdim=True)
        return values[:, 0], torch.cat([slope, -z * (-2 * t).exp() - (z - 1)], 1)

    start = FullRankNormal(torch.zeros(10, dtype=torch.float64), torch.eye(10, dtype=torch.float64))
    found = on_fixed_draws(scores, [mean_field(start)], largest=128)
    assert found.converged == converged


def test_the_best_of_several_starts_is_taken():
    """Modes at -10 and 10, the right one with nine tenths of the mass."""

    def scores(us):
        with torch.enable_grad():
            us = us.detach().requires_grad_(True)
            left, right = math.log(0.1) - (us + 10).square() / 2, math.log(0.9) - (us - 10).square() / 2
            values = torch.logaddexp(left, right).sum(-1)
            (gradients,) = torch.autograd.grad(values.sum(), us)
        return values.detach(), gradients

    found = on_fixed_draws(scores, [mean_field(near(at, 1.0)) for at in (-9.0, 9.0)])
    assert found.converged and found.normal.mean.item() == pytest.approx(10, abs=0.01)


def test_there_is_none_without_a_density():
    def scores(us):
        return torch.full_like(us[:, 0], math.nan), us

    assert on_fixed_draws(scores, [mean_field(near(0.0, 1.0))]) is None


@pytest.mark.parametrize(("pairs", "M"), [(64, 5), (64, 50)])
def test_the_moments_of_the_draws_are_those_of_the_normal(pairs, M, double):
    e = draws(pairs, M, torch.zeros(1), seed=3)
    assert e.shape == (2 * pairs, M)
    torch.testing.assert_close(e.mean(0), torch.zeros(M), rtol=0, atol=1e-12)
    torch.testing.assert_close(e.square().mean(0), torch.ones(M))
    covariance = e.T @ e / len(e) - torch.eye(M)
    assert (covariance.abs().max() < 1e-10) == (pairs >= 2 * M)
    torch.testing.assert_close(e.pow(4).mean(), torch.tensor(3.0), rtol=0.1, atol=0)


def test_a_round_whose_draws_have_no_density_is_no_evidence_of_convergence():
    """The first round has 32 pairs; the later ones have draws further away."""

    def scores(us):
        value, gradient = gamma(us)
        return torch.where((us < 0.8).all(1) | torch.tensor(len(us) <= 64), value, torch.nan), gradient

    found = on_fixed_draws(scores, [mean_field(near(0.0, 2.0))])
    assert found is None or (not found.converged and found.error == math.inf)


@pytest.mark.parametrize("D", [256, 600])
def test_a_second_round_is_possible_with_many_latents(D):
    start = FullRankNormal(torch.zeros(D, dtype=torch.float64), torch.eye(D, dtype=torch.float64))
    found = on_fixed_draws(lambda us: (-us.square().sum(1) / 2, -us), [mean_field(start)])
    assert found.converged and found.error < 0.02
