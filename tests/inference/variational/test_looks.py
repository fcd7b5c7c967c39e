"""Looks of a runner: the loss and its gradient without a step, on the data of the call or of the last one."""

import pytest
import torch

import credo
from credo.inference.variational.looks import data_or_last, gradients_of, loss_of


def test_a_look_changes_no_parameter():
    pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0])
    svi = credo.SVI(pair.model, pair.guide, compile=False)
    with pytest.raises(ValueError, match="gradients: the runner has seen no data yet"):
        data_or_last(svi, (), {}, "gradients")
    svi.step(flips)
    before = svi.params
    assert gradients_of(svi, (), {}).keys() == before.keys() and torch.tensor(loss_of(svi, (flips,), {})).isfinite()
    assert all(torch.equal(before[name], value) for name, value in svi.params.items())
