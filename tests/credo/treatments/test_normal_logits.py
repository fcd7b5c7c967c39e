"""Softmax and log-sum-exp of normal logits: quadrature in two dimensions, identities, derivatives."""

import math

import numpy as np
import pytest
import torch

from credo.treatments.normal_logits import expected_logsumexp, expected_softmax

MEAN = torch.tensor([[0.0, 0.0], [1.5, -2.0], [40.0, -3.0], [-1.0, 0.5]], dtype=torch.float64)
VARIANCE = torch.tensor([[1.0, 1.0], [4.0, 0.3], [1.0, 9.0], [0.0, 0.0]], dtype=torch.float64)


def on_a_grid(function, mean, covariance):
    """E function(f) of two logits by 120 x 120 points of Gauss-Hermite."""
    z, w = np.polynomial.hermite_e.hermegauss(120)
    z, w = torch.tensor(z), torch.tensor(w) / math.sqrt(2 * math.pi)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt()
    f = mean + torch.cartesian_prod(z, z) @ root.mT
    weights = torch.cartesian_prod(w, w).prod(-1)
    return (weights.reshape(-1, *[1] * (function(f).dim() - 1)) * function(f)).sum(0)


def test_independent_logits_are_those_of_quadrature():
    found, log_sum = expected_softmax(MEAN, VARIANCE), expected_logsumexp(MEAN, VARIANCE).value
    for i in range(4):
        cov = torch.diag(VARIANCE[i])
        torch.testing.assert_close(found[i], on_a_grid(lambda f: f.softmax(-1), MEAN[i], cov), rtol=0, atol=1e-4)
        wanted = on_a_grid(lambda f: f.logsumexp(-1), MEAN[i], cov)
        assert log_sum[i].item() == pytest.approx(wanted.item(), abs=2e-3)


def test_dependent_logits_are_near_quadrature():
    mean = torch.tensor([[0.5, -1.0], [2.0, 2.5]], dtype=torch.float64)
    covariance = torch.tensor([[[1.0, 0.9], [0.9, 2.0]], [[4.0, -1.0], [-1.0, 0.25]]], dtype=torch.float64)
    found = expected_softmax(mean, covariance)
    for i in range(2):
        wanted = on_a_grid(lambda f: f.softmax(-1), mean[i], covariance[i])
        torch.testing.assert_close(found[i], wanted, rtol=0, atol=2e-3)


def test_without_variance_it_is_the_softmax():
    f = 3 * torch.randn(6, 5)
    for none in (torch.zeros(6, 5), torch.zeros(6, 5, 5)):
        torch.testing.assert_close(expected_softmax(f, none), f.softmax(-1), rtol=0, atol=1e-4)
    torch.testing.assert_close(expected_logsumexp(f, torch.zeros(6, 5)).value, f.logsumexp(-1), rtol=0, atol=1e-4)


def test_the_gradient_of_the_log_sum_exp_is_the_softmax_and_its_curvature():
    """Bonnet's and Price's theorems: d/dm E lse = E p, d/dv E lse = E p (1 - p) / 2."""
    _, of_mean, of_variance, _ = expected_logsumexp(MEAN[:2], VARIANCE[:2])
    for i in range(2):
        cov = torch.diag(VARIANCE[i])
        torch.testing.assert_close(of_mean[i], on_a_grid(lambda f: f.softmax(-1), MEAN[i], cov), rtol=0, atol=1e-4)
        wanted = on_a_grid(lambda f: f.softmax(-1) * (1 - f.softmax(-1)) / 2, MEAN[i], cov)
        torch.testing.assert_close(of_variance[i], wanted, rtol=0, atol=1e-4)


def test_the_hessian_is_that_of_quadrature():
    hessian = expected_logsumexp(MEAN, VARIANCE, hessian=True).hessian
    for i in range(4):

        def of(f):
            p = f.softmax(-1)
            return torch.diag_embed(p) - p[..., None] * p[..., None, :]

        wanted = on_a_grid(of, MEAN[i], torch.diag(VARIANCE[i]))
        torch.testing.assert_close(hessian[i], wanted, rtol=0, atol=1e-4)


def test_the_gradients_are_those_of_differences():
    mean, variance = torch.randn(1, 4).double(), torch.tensor([[0.3, 25.0, 1.6, 400.0]]).double()
    _, of_mean, of_variance, _ = expected_logsumexp(mean, variance)
    for c in range(4):
        one = torch.zeros(1, 4).double()
        one[0, c] = 0.01
        up, down = (expected_logsumexp(mean + sign * one, variance).value for sign in (1, -1))
        assert of_mean[0, c].item() == pytest.approx(float(up - down) / 0.02, abs=2e-4)
        up, down = (expected_logsumexp(mean, variance + sign * one).value for sign in (1, -1))
        assert of_variance[0, c].item() == pytest.approx(float(up - down) / 0.02, abs=2e-4)


def test_ten_classes_against_many_draws():
    """Errors as stated: less than those of 10,000 draws; Jensen's bound lies above the log-sum-exp."""
    torch.manual_seed(1)
    mean, variance = 2 * torch.randn(20, 10), 4 * torch.rand(20, 10).square()
    f = mean + variance.sqrt() * torch.randn(20_000, 20, 10)
    p = f.softmax(-1)
    error = (p.std(0) / 20_000**0.5).clamp(min=1e-5)
    for covariance, extra in ((variance, 0.0), (torch.diag_embed(variance), 0.01)):
        assert ((expected_softmax(mean, covariance) - p.mean(0)).abs() < 5 * error + extra).all()
    log_sum = f.logsumexp(-1)
    away = (expected_logsumexp(mean, variance).value - log_sum.mean(0)).abs()
    assert (away < 5 * log_sum.std(0) / 20_000**0.5 + 1e-3).all()
    assert (expected_logsumexp(mean, variance).value < (mean + variance / 2).logsumexp(-1)).all()


def test_extreme_logits_have_finite_gradients():
    found = expected_logsumexp(torch.tensor([[500.0, -500.0, 0.0]]), torch.tensor([[0.0, 100.0, 1e-12]]))
    assert all(part.isfinite().all() for part in found)
    torch.testing.assert_close(found.of_mean, torch.tensor([[1.0, 0.0, 0.0]]), rtol=0, atol=1e-4)


def test_another_shape_of_the_covariance_is_refused():
    with pytest.raises(ValueError, match=r"covariance: got shape \(2,\) for means of shape \(2, 3\)"):
        expected_softmax(torch.zeros(2, 3), torch.zeros(2))


@pytest.mark.parametrize("sds", [[30.0, 30.0, 30.0], [100.0, 1.0, 0.0], [0.0, 12.0, 3.0]])
def test_wide_logits_against_many_draws(sds):
    mean, variance = torch.tensor([[1.0, 0.0, -2.0]]).double(), torch.tensor([sds]).double() ** 2
    z = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f = mean + variance.sqrt() * torch.cat([z, -z])
    each = (f.logsumexp(-1)[:100_000] + f.logsumexp(-1)[100_000:]) / 2
    assert (expected_softmax(mean, variance)[0] - f.softmax(-1).mean(0)).abs().max() < 0.003
    assert (expected_logsumexp(mean, variance).value - each.mean()).abs() < 4 * each.std() / len(each) ** 0.5 + 0.001


def test_rows_of_every_width_are_those_of_one_row_alone():
    torch.manual_seed(0)
    mean, variance = torch.randn(40, 3), (30 * torch.rand(40, 1) * torch.rand(40, 3)).square()
    for part, *alone in zip(
        expected_logsumexp(mean, variance),
        *(expected_logsumexp(mean[i : i + 1], variance[i : i + 1]) for i in range(40)),
        strict=True,
    ):
        torch.testing.assert_close(part, torch.cat(alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sd", [100.0, 1e3, 1e6])
def test_a_very_wide_logit_beside_points(sd):
    """f_1 is above the two others in half of its draws; these two differ by one."""
    mean, variance = torch.tensor([[0.0, 1.0, 0.0]]).double(), torch.tensor([[sd**2, 0.0, 0.0]]).double()
    others = 0.5 * torch.tensor([1.0, 0.0]).double().softmax(-1)
    torch.testing.assert_close(expected_softmax(mean, variance)[0, 1:], others, rtol=0, atol=0.005)
    value, of_mean, *_ = expected_logsumexp(mean, variance)
    assert value.item() == pytest.approx(sd / math.sqrt(2 * math.pi) + 0.66, rel=0.01)  # E max(f_1, 1.3), about
    assert of_mean.sum().item() == pytest.approx(1.0, abs=1e-3)


def test_large_means_lose_no_digits_in_single_precision():
    mean, variance = torch.tensor([[0.5, 0.0, -1.0]]), torch.tensor([[1.0, 4.0, 0.25]])
    here, there = expected_logsumexp(mean, variance), expected_logsumexp(mean + 2.0**20, variance)
    torch.testing.assert_close(there.of_mean, here.of_mean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(bad):
    for mean, variance in (([[bad, 0.0]], [[1.0, 1.0]]), ([[0.0, 0.0]], [[bad, 1.0]])):
        with pytest.raises(ValueError, match="got NaN or infinity, wanted logits that are numbers"):
            expected_softmax(torch.tensor(mean), torch.tensor(variance))


def test_a_logit_of_minus_infinity_is_a_class_that_cannot_be():
    found = expected_softmax(torch.tensor([[0.0, 1.0, -math.inf]]), torch.tensor([[1.0, 1.0, 1.0]]))
    torch.testing.assert_close(found[:, :2], expected_softmax(torch.tensor([[0.0, 1.0]]), torch.ones(1, 2)))
    assert found[0, 2] == 0
