"""Dropout as a treatment: its rates, its prediction, and the network of numbers by going through all masks."""

from functools import partial
from itertools import product

import pytest
import torch
from torch import nn

import credo
from credo.treatments import dropout as file
from credo.treatments.dropout import _masked, dropout, dropout_learnt, masked_by_row
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
        x,
        y,
        BUDGET._replace(steps=3),
        compile=False,
        plan={"0.weight.keep": "score", "2.weight.keep": "score"},
    )
    assert "dropout of learnt rates 0.weight 0." in trained.words and trained.words.endswith("; a mask for each row")
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
    with pytest.raises(ValueError, match=r"rate: got '0.5', wanted a share"):
        _masked(nn.Linear(2, 1), "0.5")
    with pytest.raises(ValueError, match=r"dropout: got \['plan'\] for numbers"):
        dropout(nn.Linear(2, 1), torch.randn(5, 2), torch.randn(5), BUDGET, rate=0.5, plan="fast")


class Pieces(nn.Module):
    """A layer for each number of a row, then one for the row: its first layer is given three rows for each."""

    def __init__(self):
        super().__init__()
        self.piece, self.row = nn.Linear(1, 4), nn.Linear(12, 2)

    def forward(self, x):
        return self.row(self.piece(x.reshape(-1, 1)).tanh().reshape(len(x), -1))


def test_masks_are_drawn_for_each_row_only_where_layers_are_given_rows():
    x, embedding = torch.randn(5, 3), nn.Sequential(nn.Embedding(4, 2), nn.Flatten(), nn.Linear(6, 2))
    mlp = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 2))
    assert masked_by_row(mlp, x) and mlp[1].training and not mlp[0]._forward_pre_hooks
    assert not masked_by_row(Pieces(), x) and not masked_by_row(embedding, torch.ones(5, 3).long())


def test_the_pair_has_the_masks_that_the_words_say(monkeypatch):
    """Shared ones where rows cannot have their own, without an error."""
    asked, y = [], torch.arange(5) % 2

    def fit_within(budget, model, guide, net, x, y):
        asked.extend(program.keywords for program in (model, guide))
        raise KeyboardInterrupt  # nothing is fitted

    monkeypatch.setattr(file, "fit_within", fit_within)
    for treatment, net in product((partial(dropout, rate=0.2), dropout_learnt), (Pieces(), nn.Linear(3, 2))):
        with pytest.raises(KeyboardInterrupt):
            treatment(net, torch.randn(5, 3), y, BUDGET)
    fixed, learnt = ({"rate": 0.2}, {"rate": 0.1})
    assert asked == [
        *[fixed | {"shared": True}] * 2,
        *[fixed | {"shared": False}] * 2,
        *[learnt | {"shared": True, "once": False} | more for more in ({}, {"learn": True})],
        *[learnt | {"shared": False, "once": True} | more for more in ({}, {"learn": True})],
    ]


def test_layers_that_share_a_weight_are_both_masked():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert [len(layer._forward_pre_hooks) for layer in _masked(net, 0.5)] == [1, 1]
