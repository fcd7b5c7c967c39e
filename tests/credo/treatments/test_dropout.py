"""Dropout as a treatment: its rates, its prediction, and the network of numbers by going through all masks."""

from itertools import product

import pytest
import torch
from torch import nn

import credo
from credo.treatments.dropout import _masked, dropout, dropout_learnt
from credo.treatments.treatment import Budget

BUDGET = Budget(steps=20, batch_size=32, lr=1e-2)


@pytest.fixture(scope="module")
def digits():
    x, y, *_ = credo.data.digits()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)), x[:100], y[:100]


def test_a_fixed_rate_predicts_classes_that_differ_by_mask(digits):
    net, x, y = digits
    before = [w.detach().clone() for w in net.parameters()]
    trained = dropout(net, x, y, BUDGET, rate=[0.1, 0.4], compile=False)
    probs = trained.predict(x[:5], 7)
    assert probs.shape == (7, 5, 10)
    torch.testing.assert_close(probs.sum(-1), torch.ones(7, 5))
    assert probs.std(0).max() > 0 and trained.numbers == sum(w.numel() for w in net.parameters())
    assert "dropout of 0.1, 0.4, a mask for each row" in trained.words and "20 steps" in trained.words
    assert all(torch.equal(w, v) for w, v in zip(net.parameters(), before, strict=True))


def test_learnt_rates_are_in_the_words(digits):
    net, x, y = digits
    trained = dropout_learnt(
        net,
        x[:, :64],
        y,
        BUDGET._replace(steps=3),
        compile=False,
        plan={"0.weight.keep": "score", "2.weight.keep": "score"},
    )
    assert "dropout of learnt rates 0.weight 0." in trained.words
    assert trained.numbers == sum(w.numel() for w in net.parameters()) + 2


def test_numbers_are_refused_where_the_rate_is_learnt(digits):
    net, x, y = digits
    with pytest.raises(ValueError, match=r"y: got torch.float32 for dropout of learnt rates, wanted classes"):
        dropout_learnt(net, x, y.float(), BUDGET)


@pytest.mark.slow
def test_without_a_rate_it_is_chosen_on_rows_held_out(digits):
    _, x, y = digits
    trained = dropout(nn.Sequential(nn.Linear(64, 10)), x, y, BUDGET._replace(steps=16), compile=False)
    assert "of 4 by the NLL of 20 validation rows" in trained.words and "of the inputs" in trained.words


def test_the_prediction_of_numbers_is_the_average_over_masks():
    net = nn.Linear(2, 1)
    x, y = torch.randn(20, 2), torch.randn(20)
    trained = dropout(net, x, y, BUDGET._replace(lr=0.05), rate=0.5)
    drawn = trained.predict(x[:3], 4000)
    assert drawn.shape == (4000, 3, 2) and (drawn[..., 1] > 0).all()
    # Linear in the masks, so the four values of a row are an input sum; their mean is that of all inputs kept.
    for n in range(3):
        values = drawn[:, n, 0].unique()
        assert len(values) <= 4
        middle = values.mean()  # of a sum of two independent inputs, each 0 or twice itself with probability 1/2
        assert abs(drawn[:, n, 0].mean() - middle) <= 4.5 * drawn[:, n, 0].std() / 4000**0.5


def test_masks_of_a_convolution_leave_out_whole_channels():
    net = _masked(nn.Conv2d(3, 1, 1, bias=False), 0.5)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1))
    out = net(torch.ones(200, 3, 2, 2)).detach()
    assert (out == out[:, :, :1, :1]).all()  # one mask for all places
    sums = {2 * (a + 10 * b + 100 * c) for a, b, c in product((0, 1), repeat=3)}
    assert {float(v) for v in out[:, 0, 0, 0].unique()} <= sums


def test_what_cannot_be_masked_is_refused():
    with pytest.raises(ValueError, match=r"rate: got 1.0, wanted a share"):
        _masked(nn.Linear(2, 1), 1.0)
    with pytest.raises(ValueError, match=r"'weight': got a weight of Embedding, wanted a linear layer"):
        _masked(nn.Embedding(2, 1), 0.1)
