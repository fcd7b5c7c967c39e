"""Linear regression against Gaussian conditioning in the space of y, grids over the coefficients, and quadrature."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from pyro import poutine
from torch.distributions import InverseGamma, MultivariateNormal, Normal

import credo
from credo.models.linear_regression import PRIOR_A, PRIOR_C

PAIR = credo.load("linear_regression")
SETTINGS = [(0.7, 1.0), (0.3, 2.5), (2.0, 0.4)]  # sigma, prior_sd
NEW = torch.tensor([[0.3, -1.2], [2.0, 0.0], [-5.0, 4.0]]).double()


def small() -> tuple[torch.Tensor, torch.Tensor]:
    """Nine rows of two correlated columns, (9, 2) and (9,), in double."""
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(9, 2, generator=generator).double()
    X[:, 1] += 0.9 * X[:, 0]
    return X, X @ torch.tensor([1.0, -0.5]).double() + 0.4 + 0.7 * torch.randn(9, generator=generator).double()


def with_ones(X: torch.Tensor) -> torch.Tensor:
    return torch.cat([X.double(), torch.ones(len(X), 1).double()], 1)


def conditioned(X, y, sigma, prior_sd):
    """(log N(y; 0, S_yy), mean and covariance of (theta, b) given y) by conditioning the joint normal of both."""
    A, eye = with_ones(X), torch.eye(len(X)).double()
    y_y, w_y = sigma**2 * eye + prior_sd**2 * A @ A.T, prior_sd**2 * A.T
    solve = torch.linalg.solve(y_y, torch.cat([y[:, None].double(), w_y.T], 1))
    cov = prior_sd**2 * torch.eye(A.shape[1]).double() - w_y @ solve[:, 1:]
    return MultivariateNormal(torch.zeros(len(y)).double(), y_y).log_prob(y).item(), w_y @ solve[:, 0], cov


def over_sigma2(X, y, prior_sd):
    """(log p(y), grid of sigma2, weights of p(sigma2 | y) on it), by the trapezoid rule over log sigma2."""
    t = torch.linspace(
        -9, 9, 4001, dtype=torch.float64
    )  # both ends fall off exponentially: the rule is exact to rounding
    s2, A = t.exp(), with_ones(X)
    prior = InverseGamma(torch.tensor(PRIOR_A).double(), torch.tensor(PRIOR_C).double())
    cov = s2[:, None, None] * (torch.eye(len(X)).double() + prior_sd**2 * A @ A.T)
    log_joint = MultivariateNormal(torch.zeros(len(X)).double(), cov).log_prob(y) + prior.log_prob(s2) + t
    log_evidence = log_joint.logsumexp(0) + (t[1] - t[0]).log()
    return log_evidence.item(), s2, (log_joint - log_joint.logsumexp(0)).exp()


@pytest.mark.parametrize(("sigma", "prior_sd"), SETTINGS)
def test_known_noise_is_conditioning_of_the_joint_normal(sigma, prior_sd):
    X, y = small()
    exact = PAIR.posterior(X, y, sigma=sigma, prior_sd=prior_sd)
    evidence, mean, cov = conditioned(X, y, sigma, prior_sd)
    theta, b = exact.marginals["theta"], exact.marginals["b"]
    assert exact.log_evidence == pytest.approx(evidence, abs=1e-9)
    torch.testing.assert_close(theta.mean, mean[:2])
    torch.testing.assert_close(theta.covariance_matrix, cov[:2, :2])
    torch.testing.assert_close(b.mean, mean[2])
    torch.testing.assert_close(b.variance, cov[2, 2])
    A = with_ones(NEW)
    predictive = exact.predictive(NEW)
    torch.testing.assert_close(predictive.mean, A @ mean)
    torch.testing.assert_close(predictive.variance, sigma**2 + (A @ cov @ A.T).diagonal())


@pytest.mark.parametrize(("sigma", "prior_sd"), SETTINGS)
def test_known_noise_with_one_coefficient_is_the_integral_over_a_grid(sigma, prior_sd):
    x, y = np.array([-1.0, 0.5, 2.0]), np.array([0.2, 0.9, 1.4])
    t = np.linspace(-9 * prior_sd, 9 * prior_sd, 1201)
    theta, b = np.meshgrid(t, t, indexing="ij")

    def log_normal(value, mean, sd):
        return -0.5 * ((value - mean) / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)

    log_joint = log_normal(theta, 0, prior_sd) + log_normal(b, 0, prior_sd)
    log_joint = log_joint + sum(log_normal(v, u * theta + b, sigma) for u, v in zip(x, y, strict=True))
    weights = np.exp(log_joint) * (t[1] - t[0]) ** 2
    exact = PAIR.posterior(torch.tensor(x)[:, None], torch.tensor(y), sigma=sigma, prior_sd=prior_sd)
    assert exact.log_evidence == pytest.approx(math.log(weights.sum()), abs=1e-6)
    weights /= weights.sum()
    for values, p in ((theta, exact.marginals["theta"]), (b, exact.marginals["b"])):
        mean = (weights * values).sum()
        assert p.mean.item() == pytest.approx(mean, abs=1e-6)
        assert p.variance.item() == pytest.approx((weights * (values - mean) ** 2).sum(), abs=1e-6)
    for u in (-2.0, 0.7):  # the predictive variance, by the law of total variance
        mean = (weights * (u * theta + b)).sum()
        variance = sigma**2 + (weights * (u * theta + b - mean) ** 2).sum()
        predictive = exact.predictive(torch.tensor([[u]]))
        assert predictive.mean.item() == pytest.approx(mean, abs=1e-6)
        assert predictive.variance.item() == pytest.approx(variance, abs=1e-6)


@pytest.mark.parametrize("prior_sd", [1.0, 0.4])
def test_unknown_noise_is_the_quadrature_over_its_variance(prior_sd):
    X, y = small()
    exact = PAIR.posterior(X, y, sigma=None, prior_sd=prior_sd)
    log_evidence, s2, weights = over_sigma2(X, y, prior_sd)
    first = (weights * s2).sum()
    assert exact.log_evidence == pytest.approx(log_evidence, abs=1e-6)
    torch.testing.assert_close(exact.marginals["sigma2"].mean, first)
    torch.testing.assert_close(exact.marginals["sigma2"].variance, (weights * (s2 - first) ** 2).sum())
    # Given sigma2 the mean does not depend on it and the covariance is sigma2 V.
    _, mean, V = conditioned(X, y, 1.0, prior_sd)
    theta, b = exact.marginals["theta"], exact.marginals["b"]
    torch.testing.assert_close(theta.mean, mean[:2])
    torch.testing.assert_close(theta.variance, first * V.diagonal()[:2])
    torch.testing.assert_close(b.mean, mean[2])
    torch.testing.assert_close(b.variance, first * V[2, 2])
    for away in torch.tensor([[-1.5, 0.3, 1.0], [0.2, 0.1, -0.4]]).double():
        value = mean + away
        density = MultivariateNormal(mean[:2], s2[:, None, None] * V[:2, :2]).log_prob(value[:2]).exp()
        torch.testing.assert_close(theta.log_prob(value[:2]).exp(), (weights * density).sum())
        density = Normal(mean[2], (s2 * V[2, 2]).sqrt()).log_prob(value[2]).exp()
        torch.testing.assert_close(b.log_prob(value[2]).exp(), (weights * density).sum())
    A = with_ones(NEW)
    predictive = exact.predictive(NEW)
    torch.testing.assert_close(predictive.mean, A @ mean)
    torch.testing.assert_close(predictive.variance, first * (1 + (A @ V @ A.T).diagonal()))


@pytest.mark.parametrize("sigma", [0.7, None])
def test_the_predictive_density_is_the_ratio_of_two_evidences(sigma):
    X, y = small()
    posterior = partial(PAIR.posterior, sigma=sigma, prior_sd=1.3)
    exact = posterior(X, y)
    y_new = torch.tensor([0.1, 3.0, -2.0]).double()
    found = exact.predictive(NEW).log_prob(y_new)
    for i in range(len(NEW)):
        longer = posterior(torch.cat([X, NEW[i : i + 1]]), torch.cat([y, y_new[i : i + 1]]))
        assert found[i].item() == pytest.approx(longer.log_evidence - exact.log_evidence, abs=1e-9)


def joint(X, y, sigma, prior_sd):
    """The exact posterior of all latents as draws of its factors: ({site: value}, log density) at a few points."""
    _, mean, V = conditioned(X, y, sigma or 1.0, prior_sd)
    exact = PAIR.posterior(X, y, sigma=sigma, prior_sd=prior_sd)
    for _ in range(3):
        z, log_p, scale = {}, 0.0, 1.0
        if sigma is None:
            z["sigma2"] = exact.marginals["sigma2"].sample()
            log_p, scale = exact.marginals["sigma2"].log_prob(z["sigma2"]), z["sigma2"].sqrt()
        w = MultivariateNormal(mean, scale_tril=scale * torch.linalg.cholesky(V))
        value = w.sample()
        yield z | {"theta": value[:-1], "b": value[-1]}, (log_p + w.log_prob(value)).item()


@pytest.mark.parametrize("sigma", [0.7, 2.0, None])
def test_the_model_and_its_posterior_satisfy_bayes_rule_at_any_point(sigma, double):
    X, y = small()
    model = partial(PAIR.model, sigma=sigma, prior_sd=0.6)
    evidence = PAIR.posterior(X, y, sigma=sigma, prior_sd=0.6).log_evidence
    for z, log_posterior in joint(X, y, sigma, 0.6):
        log_joint = poutine.trace(poutine.condition(model, z)).get_trace(X, y).log_prob_sum().item()
        assert log_joint - log_posterior == pytest.approx(evidence, abs=1e-8)


def test_the_built_in_data_is_standardised():
    X, y = PAIR.data()
    assert X.shape == (442, 10)
    both = torch.cat([X, y[:, None]], 1).double()
    torch.testing.assert_close(both.mean(0), torch.zeros(11).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(both.std(0), torch.ones(11).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0, 2.0]}, "'y'"),
        ({"y": [1.0, 2.0]}, "at least one other"),
        ({"a": [1.0, 1.0], "y": [1.0, 2.0]}, "'a' is constant"),
        ({"a": ["u", "v"], "y": [1.0, 2.0]}, "'a' holds"),
        ({"a": [1.0, None], "y": [1.0, 2.0]}, "'a' has 1 missing"),
    ],
)
def test_a_table_that_cannot_be_regressed_on_is_refused_by_the_column(columns, message):
    with pytest.raises(ValueError, match=message):
        PAIR.data(pd.DataFrame(columns))


@pytest.mark.parametrize(("X", "y"), [(torch.ones(3), None), (torch.ones(3, 2), torch.ones(3, 1))])
def test_data_of_another_shape_is_refused(X, y):
    with pytest.raises(ValueError, match=r"got shape .* wanted"):
        PAIR.model(X, y)
