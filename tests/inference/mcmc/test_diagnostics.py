"""R-hat, effective sample sizes and Monte Carlo errors, compared with chains whose autocorrelation is known."""

import math

import pytest
import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin

from credo.inference.mcmc.diagnostics import mixing

CHAINS, N, D = 4, 1000, 60


def autoregressive(phi: float, d: int = D) -> torch.Tensor:
    """x_t = phi x_(t-1) + e_t, stationary with variance 1: shape (chains, N, d)."""
    x = torch.randn(CHAINS, d, dtype=torch.float64)
    found = []
    for _ in range(N):
        x = phi * x + (1 - phi**2) ** 0.5 * torch.randn(CHAINS, d, dtype=torch.float64)
        found.append(x)
    return torch.stack(found, 1)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.3])
def test_draws_of_an_autoregression_are_worth_what_theory_says(phi):
    """ESS = C N (1 - phi) / (1 + phi)."""
    found = mixing(autoregressive(phi))
    wanted = CHAINS * N * (1 - phi) / (1 + phi)
    assert found.ess.mean().item() == pytest.approx(wanted, rel=0.1)
    assert found.mean_error.mean().item() == pytest.approx(wanted**-0.5, rel=0.1)


@pytest.mark.parametrize("phi", [0.0, 0.7])
def test_the_monte_carlo_errors_are_those_of_repetition(phi):
    x = autoregressive(phi, 400)
    found = mixing(x)
    assert x.mean((0, 1)).std().item() == pytest.approx(found.mean_error.mean().item(), rel=0.15)
    assert x.flatten(0, 1).std(0).std().item() == pytest.approx(found.sd_error.mean().item(), rel=0.15)


def test_it_agrees_with_pyro_on_ranks_turned_normal():
    x = autoregressive(0.6, 3)
    flat = x.flatten(0, 1)
    ranks = flat.argsort(0).argsort(0).double() + 1
    z = torch.special.ndtri((ranks - 3 / 8) / (len(flat) + 1 / 4)).reshape(x.shape)
    halves = torch.cat([z[:, : N // 2], z[:, N // 2 :]])
    found = mixing(x)
    torch.testing.assert_close(found.ess, effective_sample_size(halves), rtol=0.02, atol=0.0)
    assert (found.rhat >= split_gelman_rubin(z) - 1e-12).all()  # the larger of two


def test_chains_that_agree_pass():
    found = mixing(autoregressive(0.5))
    assert found.rhat.max() < 1.01 and found.rhat.min() > 0.99 and found.tail.min() > 400


def test_chains_that_differ_are_found_out():
    x = autoregressive(0.0, 4)
    x[0, :, 0] += 1.0  # in the mean
    x[0, :, 1] *= 3.0  # in the scale alone
    x[..., 2] += torch.linspace(0, 2, N)  # all of them drift: halves differ
    rhat = mixing(x).rhat
    assert (rhat[:3] > 1.05).all() and rhat[3] < 1.01


def test_heavy_tails_do_not_hide_a_shift():
    """A Cauchy has no variance, and the plain R-hat sees nothing."""
    x = torch.distributions.Cauchy(0.0, 1.0).sample((CHAINS, N)).double()
    x[0] += 3.0
    assert split_gelman_rubin(x) < 1.05 < mixing(x).rhat
    y = torch.distributions.Cauchy(0.0, 1.0).sample((CHAINS, N))
    assert mixing(y).rhat < 1.01


def test_a_monotone_map_changes_nothing():
    x = autoregressive(0.3, 2)
    one, two = mixing(x), mixing(x.exp())
    torch.testing.assert_close(one.ess, two.ess)
    torch.testing.assert_close(one.tail, two.tail)


def test_what_never_changes_is_no_alarm_unless_the_chains_differ():
    x = torch.zeros(CHAINS, N, 2)
    x[0, :, 1] = 1.0
    found = mixing(x)
    assert found.rhat.tolist() == [1.0, math.inf]
    assert found.ess[0] == CHAINS * N and found.ess[1] < 20 and found.mean_error[0] == found.sd_error[0] == 0


def test_coins_have_ties_and_are_no_alarm():
    x = torch.bernoulli(torch.full((CHAINS, N, 2, 3), 0.02))
    found = mixing(x)
    assert found.rhat.shape == (2, 3) and found.rhat.max() < 1.01 and found.ess.min() > 2000
    assert found.mean_error.mean().item() == pytest.approx((0.02 * 0.98 / (CHAINS * N)) ** 0.5, rel=0.2)
