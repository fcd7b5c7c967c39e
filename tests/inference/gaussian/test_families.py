"""Mean field and few factors, beside the optimum that each has for a normal posterior."""

import math

import pytest
import torch

from credo.inference.gaussian.families import few_factors, mean_field
from credo.inference.gaussian.fixed_draws import draws, on_fixed_draws
from credo.inference.gaussian.full_rank_normal import FullRankNormal
from credo.inference.gaussian.low_rank_normal import LowRankNormal

D, R = 8, 2
UNITS = torch.logspace(-3, 3, D, dtype=torch.float64)


def noise(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed):
    return torch.randn(*shape, generator=noise(seed), dtype=torch.float64)


def posterior(covariance, mean):
    precision = torch.linalg.inv(covariance)

    def scores(us):
        slopes = -(us - mean) @ precision
        return (slopes * (us - mean)).sum(-1) / 2, slopes

    return scores, precision


def elbo(precision, covariance):
    """E_q[log p] + entropy, for the mean of p and log p = 0 there."""
    entropy = torch.linalg.slogdet(covariance).logabsdet / 2 + len(covariance) * (1 + math.log(2 * math.pi)) / 2
    return (entropy - (precision * covariance).sum() / 2).item()


def dense():
    """A covariance in units from 1e-3 to 1e3, with correlations up to .99, and a mean."""
    F = torch.ones(D, 1, dtype=torch.float64) + 0.15 * normal(D, D, seed=0)
    return UNITS[:, None] * (F @ F.T) * UNITS, UNITS * normal(D, seed=1)


def starts(covariance, mean):
    """Dense normals: the posterior, and one that is off in its mean, sds and correlations."""
    L = torch.linalg.cholesky(covariance)
    return {"posterior": FullRankNormal(mean, L), "elsewhere": FullRankNormal(mean + 2 * L.sum(1), L.diag().diag())}


@pytest.mark.parametrize("start", ["posterior", "elsewhere"])
def test_mean_field_of_a_normal_posterior_is_known(start):
    covariance, mean = dense()
    scores, precision = posterior(covariance, mean)
    found = on_fixed_draws(scores, [mean_field(starts(covariance, mean)[start])])
    sd = precision.diagonal().rsqrt()
    assert found.converged and (found.normal.sd / sd - 1).abs().max() < 0.01
    assert ((found.normal.mean - mean) / covariance.diagonal().sqrt()).abs().max() < 0.01
    assert found.elbo == pytest.approx(elbo(precision, sd.square().diag()), abs=1e-3)


@pytest.mark.parametrize("start", ["posterior", "elsewhere"])
def test_a_posterior_of_few_factors_is_found(start):
    W, mean = 2 * normal(D, R, seed=2), UNITS * normal(D, seed=3)
    covariance = UNITS[:, None] * (torch.eye(D, dtype=torch.float64) + W @ W.T) * UNITS
    scores, precision = posterior(covariance, mean)
    found = on_fixed_draws(scores, [few_factors(starts(covariance, mean)[start], R)])
    assert found.converged and found.elbo == pytest.approx(elbo(precision, covariance), abs=0.02)
    assert (found.normal.sd / covariance.diagonal().sqrt() - 1).abs().max() < 0.05


def test_few_factors_of_another_posterior_lie_between_mean_field_and_all():
    covariance, mean = dense()
    scores, precision = posterior(covariance, mean)
    near = starts(covariance, mean)["posterior"]
    elbos = [on_fixed_draws(scores, [few_factors(near, rank)]).elbo for rank in (1, 3)]
    independent, all_of_it = elbo(precision, precision.diagonal().reciprocal().diag()), elbo(precision, covariance)
    assert independent < elbos[0] < elbos[1] + 1e-3 < all_of_it + 0.01


@pytest.mark.parametrize("rank", [1, R, D + 1])
def test_draws_and_density_belong_to_one_normal(rank):
    covariance, mean = dense()
    family = few_factors(starts(covariance, mean)["elsewhere"], rank)
    theta = family.start + 0.1 * normal(len(family.start), seed=4)
    found = family.normal(theta)
    assert isinstance(found, LowRankNormal)
    torch.testing.assert_close(found.log_det, family.log_det(theta))
    us = (family.at(theta, draws(64, family.noise, theta, seed=0)) - found.mean) / found.sd
    scaled = found.covariance / found.sd[:, None] / found.sd
    torch.testing.assert_close(us.T @ us / len(us), scaled, rtol=0, atol=1e-8)


def test_a_factor_that_holds_a_latent_alone_leaves_its_scale_above_zero():
    """Of one latent all splits of its variance between s and W are one normal: s must not run away."""
    near = FullRankNormal(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    family = few_factors(near, 2)
    theta = family.start.clone()
    theta[2:4] = -50.0
    assert family.normal(theta).scale.min() > 1e-3 and family.log_det(theta).isfinite()
