"""Natural gradient steps. Oracles: the formulas of the paper by hand, the exact mean-field posterior, torch's Adam."""

import math

import pytest
import torch

from credo.inference.updates.natural import MEAN, QUIET, Natural, mean_step

FORMS = {
    "softplus": (torch.nn.functional.softplus, lambda sd: torch.log(torch.expm1(sd))),
    "exp": (torch.exp, torch.log),
    "half_exp": (lambda raw: torch.exp(raw / 2), lambda sd: 2 * torch.log(sd)),
}


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("form", FORMS)
def test_steps_are_those_of_ivon_in_its_own_terms(form):
    """Shen et al. 2024, algorithm 1: with N = 50 rows and weight decay delta, three steps, not rescaled."""
    sd_of, raw_of = FORMS[form]
    n, delta, b1, lr, mean, precision = 50.0, 0.3, 0.9, 0.02, 3.0, 2.0
    loc, sd = leaf(0.4, -1.0, 2.0), torch.tensor([0.05, 0.1, 0.7], dtype=torch.float64)
    raw = raw_of(sd).detach().requires_grad_()
    optimiser = Natural([loc, raw], lr, [(0, 1, form)], mean=mean, precision=precision, radius=math.inf)
    m, h, g = loc.detach().clone(), 1 / (n * sd**2) - delta, torch.zeros(3, dtype=torch.float64)
    rho, alpha = lr * precision, lr * mean
    for t in range(1, 4):
        torch.manual_seed(t)
        grad_hat, h_hat = torch.randn(3).double() * 0.1, torch.rand(3).double() * 5  # of the loss of a row
        # The gradients of L = n E[loss] + KL(q || N(0, 1 / (n delta))), whose entropy is -log sd.
        sd_now = sd_of(raw.detach())
        loc.grad = n * (grad_hat + delta * loc.detach())
        on_sd = n * (h_hat + delta) * sd_now - 1 / sd_now
        (slope,) = torch.autograd.grad(sd_of(raw).sum(), raw)
        raw.grad = on_sd * slope
        optimiser.step()
        g = b1 * g + (1 - b1) * (grad_hat + delta * m)
        h = (1 - rho) * h + rho * h_hat + 0.5 * rho**2 * (h - h_hat) ** 2 / (h + delta)
        m = m - alpha * (g / (1 - b1**t)) / (h + delta)
        torch.testing.assert_close(sd_of(raw.detach()), 1 / (n * (h + delta)).sqrt(), rtol=1e-12, atol=0)
        torch.testing.assert_close(loc.detach(), m, rtol=1e-12, atol=1e-12)


def test_they_end_at_the_best_normals_of_a_linear_regression():
    """The exact gradients of KL(q || N(A^-1 b, A^-1)): A m - b, and A_ii s - 1/s. The optimum is s_i = A_ii^(-1/2)."""
    torch.manual_seed(0)
    x = torch.randn(30, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64)
    a, b = x.T @ x + torch.eye(4), torch.randn(4, dtype=torch.float64) * 10
    loc, raw = leaf(0.0, 0.0, 0.0, 0.0), leaf(-3.0, -3.0, -3.0, -3.0)
    optimiser = Natural([loc, raw], 0.1, [(0, 1, "softplus")], mean=3.0, precision=3.0)
    for _ in range(600):
        sd = torch.nn.functional.softplus(raw.detach())
        loc.grad = a @ loc.detach() - b
        raw.grad = (a.diagonal() * sd - 1 / sd) * raw.detach().sigmoid()
        optimiser.step()
    torch.testing.assert_close(loc.detach(), torch.linalg.solve(a, b), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(torch.nn.functional.softplus(raw.detach()), a.diagonal() ** -0.5, rtol=1e-9, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [-1e8, -10.0, 10.0, 1e8])
def test_however_large_a_gradient_is_the_scale_stays_positive_and_the_step_short(form, size):
    sd_of, raw_of = FORMS[form]
    loc, raw = torch.zeros(1, requires_grad=True), raw_of(torch.tensor([0.3])).requires_grad_()
    optimiser = Natural([loc, raw], 0.02, [(0, 1, form)], radius=0.5)
    for _ in range(2):
        loc.grad, raw.grad = torch.tensor([size]), torch.tensor([size])
        optimiser.step()
        assert raw.isfinite().all() and sd_of(raw.detach()) > 0
    assert abs(loc.item()) <= 0.5 * 2 * 0.3 * 2


def test_all_other_parameters_get_adam():
    torch.manual_seed(1)
    mine, adams = leaf(1.0, -2.0), leaf(1.0, -2.0)
    optimiser = Natural([leaf(0.0), mine, leaf(0.0)], 0.03, [(0, 2, "exp")])
    wanted = torch.optim.Adam([adams], lr=0.03, betas=(0.9, 0.99))
    for _ in range(20):
        mine.grad = torch.randn(2, dtype=torch.float64)
        adams.grad = mine.grad.clone()
        optimiser.step(), wanted.step()
    torch.testing.assert_close(mine, adams, rtol=1e-12, atol=0)
    assert len(optimiser.state) == 1  # a normal without gradients does not move


def test_a_scale_has_no_moment_and_a_loc_has_one():
    loc, raw, other = leaf(0.0), leaf(0.0), leaf(0.0)
    optimiser = Natural([loc, raw, other], 0.03, [(0, 1, "exp")])
    for p in (loc, raw, other):
        p.grad = torch.ones_like(p)
    optimiser.step()
    kept = [sorted(optimiser.state[p]) for p in (loc, raw, other)]
    assert kept == [["exp_avg", "step"], ["step"], ["exp_avg", "exp_avg_sq", "step"]]


def test_means_take_steps_shorter_by_the_root_of_the_noise_of_batches():
    assert mean_step(1.0) == mean_step(QUIET) == MEAN
    assert mean_step(4 * QUIET) == pytest.approx(MEAN / 2)


@pytest.mark.parametrize("shape", [(1, 400), (400,), (1, 4, 10, 10)])
def test_where_all_inputs_are_alike_the_means_still_come_to_rest(shape):
    """L = (c (sum m - 1)² + |m|²) / 2 with sds at rest: over its diagonal the Hessian has the eigenvalue 400. Momentum
    is unstable there from a rate of 2 · 19 / 400 on, and 5 times the learning rate is more."""
    c, loc = 1e4, torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    raw = torch.full(shape, -0.5 * math.log(c + 1), dtype=torch.float64, requires_grad=True)
    optimiser = Natural([loc, raw], 0.05, [(0, 1, "exp")], radius=math.inf)
    for _ in range(200):
        loc.grad, raw.grad = c * (loc.detach().sum() - 1) + loc.detach(), torch.zeros(shape, dtype=torch.float64)
        optimiser.step()
    assert abs(loc.detach().sum() - 1) < 1e-3


def test_a_weight_with_few_inputs_has_the_step_of_the_rate():
    loc, raw = torch.zeros(300, 2, dtype=torch.float64, requires_grad=True), torch.zeros(300, 2, dtype=torch.float64)
    optimiser = Natural([loc, raw.requires_grad_()], 0.02, [(0, 1, "exp")], mean=3.0, radius=math.inf)
    loc.grad, raw.grad = torch.ones(300, 2, dtype=torch.float64), torch.zeros(300, 2, dtype=torch.float64)
    optimiser.step()
    torch.testing.assert_close(loc.detach(), torch.full_like(loc, -0.06).detach())
