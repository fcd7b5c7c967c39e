"""A run ends early only where its draws cannot become reliable."""

import pytest
import torch

from credo.inference.mcmc.looks import fails, looks, stuck
from tests.inference.mcmc.test_diagnostics import autoregressive


def test_there_are_looks_after_a_hundred_draws_at_the_earliest():
    assert looks(1000) == [100, 250, 500, 1000]
    assert looks(400) == [100, 200, 400]
    assert looks(20) == [20] and looks(5000) == [500, 1250, 2500, 5000]


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_draws_that_will_do_go_on(phi):
    """4,000 of them are worth 4000 (1 - phi) / (1 + phi) >= 440."""
    for n in (100, 250, 500):
        assert not fails(autoregressive(phi, 5)[:, :n], 0, 1000)
    assert not fails(autoregressive(0.95, 2)[:, :250], 0, 20_000)  # worth 2,000 in the end


def test_chains_that_stay_apart_end_the_run():
    u = autoregressive(0.0, 2)[:, :100]
    u[:, :, 1] += torch.tensor([-5.0, 5.0, -5.0, 5.0])[:, None]
    assert fails(u, 0, 1000) and not fails(u[:2, :, :1], 0, 1000)


def test_draws_that_hardly_move_end_the_run():
    assert fails(autoregressive(0.999, 2)[:, :500], 0, 1000)


def test_more_divergences_than_are_allowed_at_all_end_the_run():
    u = autoregressive(0.0, 2)[:, :100]
    assert not fails(u, 20, 1000) and fails(u, 21, 1000)  # 0.5 % of 4,000


def test_chains_that_do_not_move_end_the_run_after_the_warm_up():
    """In each its own place; chains that are slow, or in one of two modes, are left to the looks at the draws."""
    u = autoregressive(0.0, 2)[:, :50]
    apart = u + 20 * torch.arange(4.0)[:, None, None]
    assert stuck(apart, 1000) and not stuck(apart[:, :49], 1000)
    for phi in (0.0, 0.5, 0.8):
        assert not stuck(autoregressive(phi, 20)[:, :50], 1000)
    assert not stuck(u + torch.tensor([-5.0, 5.0, -5.0, 5.0])[:, None, None], 1000)
