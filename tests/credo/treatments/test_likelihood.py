"""What a network says of y, beside torch's and scipy's densities; and the rows of each step."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from credo.treatments.likelihood import LEAST_SD, NOISE, START, batches, likelihood, start

X = torch.tensor([[1.0, 10.0], [3.0, 10.0], [5.0, 10.0], [8.0, 10.0]], dtype=torch.float64)
Y = torch.tensor([100.0, 140.0, 130.0, 200.0], dtype=torch.float64)


def test_the_columns_are_standardised_and_a_constant_one_stays():
    likely = likelihood(nn.Linear(2, 1).double(), X, Y)
    seen = likely.inputs(X)
    assert seen[:, 0].mean().abs() < 1e-12 and seen[:, 0].std(correction=0).item() == pytest.approx(1)
    assert (seen[:, 1] == 0).all()


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_predictive_of_numbers_is_in_their_units(outputs):
    """The loss is -log p(y) per row plus log sd y: y in its units against y in its sds."""
    likely = likelihood(nn.Linear(2, outputs).double(), X, Y)
    f = torch.linspace(-1, 1, 4 * outputs, dtype=torch.float64).reshape(4, outputs)
    beside = start(likely, f)
    mean, sd = likely.predictive(f, beside).unbind(-1)
    spread = Y.std(correction=0)
    assert torch.allclose(mean, Y.mean() + spread * f[:, 0])
    wanted = math.exp(START) if outputs == 1 else nn.functional.softplus(f[:, 1]) + LEAST_SD
    assert torch.allclose(sd, spread * wanted)
    nll = -stats.norm(mean, sd).logpdf(Y).mean()
    assert likely.loss(f, Y, beside).item() == pytest.approx(nll - spread.log().item())
    assert (NOISE in beside) == (outputs == 1)


def test_classes_have_torchs_cross_entropy_and_see_x_as_it_is():
    likely = likelihood(nn.Linear(2, 3).double(), X, torch.tensor([0, 1, 2, 0]))
    f = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 0])
    assert likely.inputs(X) is X
    assert torch.equal(likely.loss(f, y, {}), nn.functional.cross_entropy(f, y))
    assert likely.predictive(f, {}).sum(-1).tolist() == pytest.approx([1] * 4)


@pytest.mark.parametrize(
    ("outputs", "y", "words"),
    [
        (1, torch.tensor([0, 1, 1, 0]), r"y\.float\(\)"),
        (3, Y, r"y\.long\(\)"),
        (2, torch.tensor([0, 1, 2, 0]), "number the classes from 0"),
        (2, torch.tensor([0, -1, 1, 0]), "from -1 to 1"),
    ],
)
def test_a_network_that_does_not_suit_y_is_refused(outputs, y, words):
    net = nn.Linear(2, outputs).double()
    with pytest.raises(ValueError, match=words):
        likelihood(net, X, y)
    assert net.training


@pytest.mark.parametrize(("rows", "size"), [(10, 3), (10, 10), (7, 20), (5, 4)])
def test_every_row_comes_once_before_any_comes_again(rows, size):
    steps = 3 * rows
    stream = [batch.tolist() for batch in batches(rows, size, steps, 0, torch.device("cpu"))]
    assert all(len(batch) == min(size, rows) for batch in stream) and len(stream) == steps
    flat = [row for batch in stream for row in batch]
    assert all(sorted(flat[i : i + rows]) == list(range(rows)) for i in range(0, len(flat) - rows, rows))
    other = [batch.tolist() for batch in batches(rows, size, steps, 1, torch.device("cpu"))]
    assert other != stream


def test_probabilities_in_place_of_logits_are_refused():
    net = nn.Sequential(nn.Linear(3, 2), nn.Softmax(-1))
    x, y = torch.randn(4, 3), torch.arange(4) % 2
    with pytest.raises(ValueError, match=r"outputs are probabilities.*leave out the softmax"):
        likelihood(net, x, y)
    likelihood(nn.Sequential(nn.Linear(3, 2), nn.LogSoftmax(-1)), x, y)  # whose softmax is the same


def test_the_look_at_the_outputs_leaves_each_layer_in_its_mode():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    net[1].eval()
    likelihood(net, torch.randn(4, 3), torch.arange(4) % 2)
    assert [layer.training for layer in net.modules()] == [True, True, False]
