"""Draws of many posteriors: counts beside those of one fit, and two fits that differ."""

import torch

from credo.inference.calibration.many_draws import LOOK, differ


def draws(mean=0.0, sd=1.0, seed=0):
    return {"z": mean + sd * torch.randn(LOOK, 2, generator=torch.Generator().manual_seed(seed))}


def test_two_runs_of_the_same_fit_do_not_differ():
    assert not any(differ(draws(seed=i), draws(mean=0.05, sd=1.05, seed=50 + i)) for i in range(20))


def test_fits_that_differ_are_told():
    assert differ(draws(), draws(mean=0.5, seed=1))
    assert differ(draws(), draws(sd=1.5, seed=1))
    assert differ(draws(), draws(sd=0.6, seed=1))
    one = draws(seed=1)
    one["z"][:, 1] += 0.6
    assert differ(draws(), one)


def test_constants_do_not_differ_from_themselves():
    one = {"L": torch.tensor([1.0, 0.0]).expand(LOOK, 2)}
    assert not differ(one, one)
    assert differ(one, {"L": torch.tensor([1.0, 0.5]).expand(LOOK, 2)})
