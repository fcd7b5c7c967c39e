"""Distances between beliefs, held against quadrature, matrix square roots and closed forms."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import sqrtm
from torch.distributions import Independent, LowRankMultivariateNormal, MultivariateNormal, Normal, kl_divergence

from credo.inference.distributions.distances import (
    as_normal,
    kl,
    scalar,
    total_variation,
    wasserstein,
    wasserstein_normals,
)

MIX = dist.Categorical(torch.tensor([0.3, 0.7]).double())


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def covariance(d: int, seed: int) -> torch.Tensor:
    a = torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return a @ a.T + 0.1 * torch.eye(d, dtype=torch.float64)


def divergence(q, p) -> torch.Tensor:
    return kl(q, p, q.mean.double(), q.variance.double().sqrt())


@pytest.mark.parametrize(
    ("q", "p", "low", "high"),
    [
        (dist.LogNormal(t(0.3), t(0.4)), dist.Gamma(t(2.0), t(1.5)), 1e-6, 30.0),
        (dist.LogNormal(t(-1.0), t(1.0)), dist.InverseGamma(t(3.0), t(1.0)), 1e-6, 120.0),
        (dist.Normal(t(0.3), t(0.4)), dist.StudentT(t(3.0), t(0.0), t(1.0)), -5.0, 5.0),
        (dist.Normal(t(0.3), t(1.4)), dist.MixtureSameFamily(MIX, dist.Normal(t(-2.0, 1.0), t(0.3, 0.5))), -12.0, 12.0),
        (
            dist.TransformedDistribution(dist.Normal(t(0.5), t(0.8)), [dist.transforms.SigmoidTransform()]),
            dist.Beta(t(3.0), t(2.0)),
            1e-9,
            1 - 1e-9,
        ),
    ],
    ids=["lognormal-gamma", "lognormal-inversegamma", "normal-t", "normal-mixture", "logitnormal-beta"],
)
def test_without_a_closed_form_kl_is_that_of_quadrature(q, p, low, high):
    def integrand(x: float) -> float:
        x = torch.tensor([x], dtype=torch.float64)
        log_q = q.log_prob(x)
        return (log_q.exp() * (log_q - p.log_prob(x))).item()

    wanted = quad(integrand, low, high, epsabs=1e-11, epsrel=1e-10, limit=500, points=[low + (high - low) / 20])[0]
    found = kl(q, p, t(0.0), t(1.0))
    assert found.shape == (1,) and found.item() == pytest.approx(wanted, rel=1e-6, abs=1e-8)


def test_a_belief_in_the_impossible_is_infinitely_far():
    assert divergence(dist.Normal(t(1.0), t(1.0)), dist.Gamma(t(2.0), t(2.0))).tolist() == [math.inf]


def test_kl_of_gaussian_vectors_is_that_of_their_marginals():
    p = MultivariateNormal(t(0.0, 1.0, 2.0), covariance(3, 0))
    q = Independent(Normal(t(0.5, 1.0, 1.0), t(1.0, 2.0, 0.3)), 1)
    wanted = kl_divergence(q.base_dist, Normal(p.mean, p.variance.sqrt()))
    torch.testing.assert_close(divergence(q, p), wanted)
    torch.testing.assert_close(kl(None, p, q.mean, q.stddev), wanted)  # known by its moments alone


def test_kl_of_dirichlets_is_that_of_their_betas():
    a, b = t(1.0, 2.0, 3.0), t(2.0, 2.0, 5.0)
    wanted = kl_divergence(dist.Beta(a, 6 - a), dist.Beta(b, 9 - b))
    torch.testing.assert_close(divergence(dist.Dirichlet(a), dist.Dirichlet(b)), wanted)


def test_a_point_has_no_density_and_a_w2():
    p = dist.Normal(t(1.0), t(2.0))
    assert kl(dist.Delta(t(1.5)), p, t(1.5), t(0.0)).item() == math.inf
    assert wasserstein(p, t(1.5), t(0.0)).item() == pytest.approx((0.25 + 4) ** 0.5)


def test_no_density_no_kl():
    class Drawn:
        mean, variance = t(0.0), t(1.0)

    assert divergence(dist.Normal(t(0.0), t(1.0)), Drawn()).isnan().all()
    assert wasserstein(Drawn(), t(0.0), t(1.0)) is None


def test_w2_of_normals_is_the_integral_over_quantiles():
    """W2^2 is the integral of (F^-1 - G^-1)^2."""
    q, p = Normal(t(0.3), t(0.5)), Normal(t(-1.0), t(2.0))
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    wanted = ((q.icdf(u) - p.icdf(u)) ** 2).mean().sqrt().item()
    assert wasserstein(p, q.mean, q.stddev).item() == pytest.approx(wanted, rel=1e-4)
    ours, theirs = as_normal(q), as_normal(p)
    assert wasserstein_normals(ours, theirs).item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_w2_of_gaussian_vectors_is_that_of_matrix_roots(d):
    S, R = covariance(d, 1), covariance(d, 2)
    m = torch.arange(d).double()
    q, p = MultivariateNormal(m, S), MultivariateNormal(torch.zeros(d).double(), R)
    root = sqrtm(R.numpy())
    cross = np.real(sqrtm(root @ S.numpy() @ root))
    wanted = (m @ m + S.trace() + R.trace() - 2 * np.trace(cross)).item() ** 0.5
    assert wasserstein_normals(q, p).item() == pytest.approx(wanted, rel=1e-8)
    assert wasserstein_normals(p, q).item() == pytest.approx(wanted, rel=1e-8)
    assert wasserstein_normals(q, q).item() == pytest.approx(0.0, abs=1e-6)


def test_the_scalars_of_a_distribution_have_its_moments():
    weights = dist.Categorical(t(0.2, 0.8))
    parts = MultivariateNormal(
        torch.tensor([[0.0, 1.0], [2.0, -3.0]]).double(), torch.stack([covariance(2, i) for i in (3, 4)])
    )
    low_rank = LowRankMultivariateNormal(t(0.0, 1.0), torch.ones(2, 1).double(), t(0.5, 0.7))
    for fn in (
        dist.Dirichlet(t(1.0, 2.0, 3.0)),
        MultivariateNormal(t(0.0, 1.0), covariance(2, 5)),
        low_rank,
        dist.MultivariateStudentT(t(7.0)[0], t(0.0, 1.0), torch.linalg.cholesky(covariance(2, 6))),
        dist.MixtureSameFamily(weights, parts),
        dist.MixtureSameFamily(weights, dist.Normal(t(0.0, 1.0), t(1.0, 2.0))),
        dist.Normal(t(0.0, 1.0), 1.0).expand([3, 2]).to_event(1),
        dist.Gamma(t(2.0), t(1.0)).expand([4]),
    ):
        marginal = scalar(fn)
        assert marginal.event_shape == () and marginal.batch_shape == fn.mean.shape
        torch.testing.assert_close(marginal.mean, fn.mean)
        torch.testing.assert_close(marginal.variance, fn.variance)


def test_the_scalars_of_a_mixture_are_what_is_left_after_integrating():
    parts = MultivariateNormal(
        torch.tensor([[0.0, 1.0], [2.0, -3.0]]).double(), torch.stack([covariance(2, i) for i in (3, 4)])
    )
    fn = dist.MixtureSameFamily(dist.Categorical(t(0.2, 0.8)), parts)
    y = torch.linspace(-40, 40, 80_001).double()
    joint = fn.log_prob(torch.stack([torch.full_like(y, 0.7), y], -1)).exp()
    found = scalar(fn).log_prob(t(0.7, 0.7)).exp()
    assert found[0].item() == pytest.approx(torch.trapezoid(joint, y).item(), rel=1e-8)


def test_a_site_as_one_gaussian_vector():
    S = torch.stack([covariance(2, i) for i in range(3)])
    rows = MultivariateNormal(torch.zeros(3, 2).double(), S)
    torch.testing.assert_close(as_normal(rows).covariance_matrix, torch.block_diag(*S))
    plain = dist.Normal(torch.zeros(2, 3), 2.0).to_event(1)
    torch.testing.assert_close(as_normal(plain).covariance_matrix, 4 * torch.eye(6).double())
    assert as_normal(dist.Gamma(1.0, 1.0)) is None and as_normal(None) is None


def test_total_variation_is_half_the_sum_of_differences():
    q, p = dist.Categorical(torch.tensor([0.2, 0.5, 0.3])), dist.Categorical(torch.tensor([0.4, 0.4, 0.2]))
    assert total_variation(q, p).item() == pytest.approx(0.2)
    assert total_variation(dist.Bernoulli(0.3), dist.Bernoulli(0.9)).item() == pytest.approx(0.6)
    assert total_variation(dist.Normal(0.0, 1.0), p) is None and total_variation(None, p) is None


UNLIKE = {
    "Student t under a normal": (dist.StudentT(t(5.0), t(0.1), t(0.8)), dist.Normal(t(0.3), t(0.7)), -300.0, 300.0),
    "inverse gamma under a normal": (dist.InverseGamma(t(6.0), t(3.0)), dist.Normal(t(0.6), t(0.4)), 1e-3, 60.0),
    "Weibull under a gamma": (dist.Weibull(t(2.0), t(1.5)), dist.Gamma(t(3.0), t(2.0)), 1e-12, 30.0),
    "half-normal under an exponential": (dist.HalfNormal(t(1.2)), dist.Exponential(t(1.1)), 0.0, 30.0),
    "gamma under a lognormal": (dist.Gamma(t(3.0), t(2.0)), dist.LogNormal(t(0.2), t(0.5)), 1e-6, 40.0),
    "Laplace under a Student t": (dist.Laplace(t(0.1), t(0.8)), dist.StudentT(t(4.0), t(0.0), t(1.0)), -60.0, 60.0),
}


@pytest.mark.parametrize("pair", UNLIKE)
def test_kl_of_unlike_families_is_that_of_quadrature(pair):
    q, p, low, high = UNLIKE[pair]

    def integrand(x: float) -> float:
        x = torch.tensor([x], dtype=torch.float64)
        return (q.log_prob(x).exp() * (q.log_prob(x) - p.log_prob(x))).item()

    middle = q.mean.item()
    wanted = quad(integrand, low, middle, limit=500)[0] + quad(integrand, middle, high, limit=500)[0]
    assert divergence(q, p).item() == pytest.approx(wanted, rel=2e-3, abs=1e-4)


def test_kl_is_infinite_or_not_a_number_where_its_integral_diverges():
    assert divergence(dist.Normal(t(1.0), t(1.0)), dist.Exponential(t(1.0))).item() == math.inf
    assert math.isnan(divergence(dist.Exponential(t(1.0)), dist.InverseGamma(t(2.0), t(1.0))).item())
    assert math.isnan(divergence(dist.Laplace(t(0.0), t(2.0)), dist.Gumbel(t(0.0), t(0.5))).item())
    assert divergence(dist.StudentT(t(4.0), t(0.0), t(1.0)), dist.Gumbel(t(0.0), t(1.0))).item() == math.inf


def test_a_wrong_registered_kl_is_replaced_by_quadrature():
    class Skewed(torch.distributions.Gumbel):
        pass

    torch.distributions.register_kl(Skewed, Normal)(lambda q, p: q.loc * 0 + 7.0)
    torch.distributions.kl._KL_MEMOIZE.clear()
    q, p = Skewed(t(0.1), t(0.8)), Normal(t(0.0), t(1.0))
    wanted = kl_divergence(torch.distributions.Gumbel(t(0.1), t(0.8)), p)
    torch.testing.assert_close(divergence(q, p), wanted, rtol=1e-4, atol=1e-6)
