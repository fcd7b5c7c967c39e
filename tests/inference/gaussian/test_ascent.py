"""Newton's and quasi-Newton's steps to known maxima: far away, in any units, along narrow valleys."""

import pytest
import torch

from credo.inference.gaussian.ascent import ascend, inverted
from tests.cases.densities import normal


def end(target, starts, newton):
    fronts = list(ascend(target.scores, starts, target.hessians if newton else None))
    return fronts[-1], len(fronts)


@pytest.mark.parametrize(("D", "condition", "far"), [(5, 10.0, 1.0), (20, 1e6, 5.0), (20, 1e3, 1e6)])
def test_newton_takes_few_steps_to_a_normal_mean(D, condition, far):
    target, truth = normal(D, condition, far)
    front, steps = end(target, target.starts(0), newton=True)
    assert steps <= 5 and not front.moving.any()
    for u, inverse in zip(front.us, front.inverses, strict=True):
        assert ((u - truth.mean) / truth.covariance.diagonal().sqrt()).abs().max() < 1e-3
        torch.testing.assert_close(inverse, truth.covariance, rtol=1e-5, atol=1e-5 * condition)


@pytest.mark.parametrize(("D", "condition", "far"), [(5, 10.0, 1.0), (20, 1e4, 5.0), (5, 10.0, 1e6)])
def test_bfgs_finds_it_from_gradients_alone(D, condition, far):
    target, truth = normal(D, condition, far)
    front, _ = end(target, target.starts(0), newton=False)
    gap = (front.us - truth.mean) @ torch.linalg.inv(torch.linalg.cholesky(truth.covariance)).T
    assert (gap.norm(dim=1) < 0.05).all()


def test_units_do_not_matter_to_newton():
    target, truth = normal(8, 100.0, scales=torch.logspace(-4, 6, 8, dtype=torch.float64))
    front, steps = end(target, target.starts(0), newton=True)
    assert steps <= 5 and ((front.us - truth.mean) / truth.covariance.diagonal().sqrt()).abs().max() < 1e-3


def test_a_saddle_is_left_uphill(double):
    front, _ = end_of(lambda u: 2 * u[0] ** 2 - u[0] ** 4 - u[1] ** 2, torch.tensor([[0.1, 1.0], [-0.1, -1.0]]))
    torch.testing.assert_close(front.us, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), atol=1e-2, rtol=0)


def end_of(f, starts):
    def scores(us):
        gradients, values = torch.func.vmap(torch.func.grad_and_value(f))(us)
        return values, gradients

    fronts = list(ascend(scores, starts, torch.func.vmap(torch.func.jacrev(torch.func.grad(f)))))
    return fronts[-1], len(fronts)


def test_a_point_without_a_density_rests_where_it_is(double):
    """log u has none below zero; the other point is not held up."""
    front, _ = end_of(lambda u: 2 * u[0].log() - u[0], torch.tensor([[-1.0], [10.0]]))
    assert front.us[0] == -1 and front.us[1].item() == pytest.approx(2.0, abs=1e-2)


def test_the_inverse_has_no_sign(double):
    H = torch.diag(torch.tensor([-2.0, 4.0, -0.5]))
    torch.testing.assert_close(inverted(H[None])[0], torch.diag(torch.tensor([0.5, 0.25, 2.0])))
    assert torch.equal(inverted(H[None] * torch.nan)[0], torch.eye(3))
