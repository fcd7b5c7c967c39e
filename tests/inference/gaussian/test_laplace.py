"""Laplace's approximation: exact for normals, the mode and curvature in closed form, refused where there is no mode."""

import math

import pytest
import torch

from credo.inference.gaussian.laplace import NoMode, curved, laplace
from tests.cases.densities import Target, normal


@pytest.mark.parametrize(("D", "condition", "far"), [(1, 1.0, 5.0), (20, 1e6, 5.0), (200, 1e6, 5.0), (5, 10.0, 1e6)])
def test_a_normal_is_found_with_its_evidence(D, condition, far):
    target, truth = normal(D, condition, far)
    found = laplace(target.scores, target.hessians, torch.zeros(D, dtype=torch.float64))
    assert max(truth.errors(found.normal)) < 1e-6
    assert found.log_evidence == pytest.approx(truth.log_evidence, abs=1e-6)


def test_units_do_not_matter():
    target, truth = normal(8, 100.0, scales=torch.logspace(-4, 6, 8, dtype=torch.float64))
    found = laplace(target.scores, target.hessians, torch.zeros(8, dtype=torch.float64))
    assert max(truth.errors(found.normal)) < 1e-6


def test_a_gamma_in_logs():
    """log p(u) = a u - b exp(u): the mode log(a / b), curvature a; the evidence is Stirling's formula."""
    a, b = 5.0, 2.0
    target = Target(lambda u: (a * u - b * u.exp()).sum(), 1)
    found = laplace(target.scores, target.hessians, torch.tensor([-3.0], dtype=torch.float64))
    assert found.normal.mean.item() == pytest.approx(math.log(a / b), abs=1e-7)
    assert found.normal.sd.item() == pytest.approx(a**-0.5, rel=1e-6)
    assert found.log_evidence == pytest.approx(a * math.log(a / b) - a + math.log(2 * math.pi / a) / 2, abs=1e-7)
    exact = math.lgamma(a) - a * math.log(b)
    assert abs(found.log_evidence - exact) == pytest.approx(1 / (12 * a), rel=0.1)


@pytest.mark.parametrize(
    "f", [lambda u: u[0] * 1.0 - u[1] ** 2, lambda u: -(u[0] ** 4), lambda u: -((u[0] - u[1]) ** 2)]
)
def test_where_there_is_no_mode_of_positive_curvature_there_is_no_normal(f):
    target = Target(f, 2)
    with pytest.raises(NoMode, match="no mode"):
        laplace(target.scores, target.hessians, torch.tensor([0.5, 1.0], dtype=torch.float64))


def test_the_normal_of_a_hessian(double):
    A = torch.randn(4, 4)
    H = -(A @ A.T + torch.eye(4))
    torch.testing.assert_close(curved(torch.zeros(4), H).covariance, torch.linalg.inv(-H))
    assert curved(torch.zeros(4), -H) is None
