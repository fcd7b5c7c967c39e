"""DropConnect as a treatment."""

import pytest
import torch
from torch import nn

import credo
from credo.treatments.dropconnect import dropconnect
from credo.treatments.treatment import Budget

BUDGET = Budget(steps=16, batch_size=32, lr=1e-2)


def test_it_predicts_classes_that_differ_by_mask_and_says_its_rate():
    x, y, *_ = credo.data.digits()
    net = nn.Linear(64, 10)
    trained = dropconnect(net, x[:100], y[:100], BUDGET, rate=0.2, compile=False)
    probs = trained.predict(x[:5], 7)
    assert probs.shape == (7, 5, 10) and probs.std(0).max() > 0
    assert "DropConnect of 0.2" in trained.words and trained.numbers == 650
    with pytest.raises(ValueError, match=r"y: got torch.float32 for DropConnect of 0.2"):
        dropconnect(net, x, y.float(), BUDGET, rate=0.2)


def test_without_a_rate_it_is_chosen_on_rows_held_out():
    x, y, *_ = credo.data.digits()
    trained = dropconnect(nn.Linear(64, 10), x[:100], y[:100], BUDGET, compile=False)
    assert "of 4 by the NLL of 20 validation rows" in trained.words and "of the weights" in trained.words
    assert torch.isfinite(trained.predict(x[:5], 2)).all()
