"""What cannot be learnt from is refused before the first step: the argument, what came, what was wanted."""

import pandas as pd
import pytest
import torch
from torch import nn

import credo
from credo.models.stochastic_depth_resnet import residual

CLASSIFIERS = ["bnn_classifier", "bnn_dropout", "bnn_sparse", "stochastic_depth_resnet"]
X = torch.tensor([[0.3, -1.0], [1.5, 0.2], [-0.7, 0.4], [0.0, 2.0], [-1.2, -0.3], [0.1, 0.2]])
Y = torch.tensor([0, 1, 2, 0, 1, 2])
NAN = X.clone()
NAN[2, 1] = torch.nan


class Then(nn.Module):
    """A network whose output is changed on the way out."""

    def __init__(self, net: nn.Module, change) -> None:
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x):
        return self.change(self.net(x))


def network(name, change=None):
    """From two numbers to three classes."""
    if name == "stochastic_depth_resnet":
        net = residual(2, 3, width=4, blocks=2)
        if change is not None:
            net["head"] = Then(net["head"], change)
        return net
    net = nn.Sequential(nn.Linear(2, 3))
    return net if change is None else Then(net, change)


def first_column(t):
    return t[:, 0]


def first_column_kept(t):
    return t[:, :1]


def one_more_dimension(t):
    return t[..., None]


def half_the_rows(t):
    return t[: len(t) // 2]


OUTPUTS = {
    "(N,)": (first_column, r"net: its \w+ \w+ shape \(6,\).*wanted \(6, C\) for C"),
    "(N, 1)": (first_column_kept, r"net: its output has shape \(6, 1\).*wanted \(6, C\) for C >= 2"),
    "(N, C, 1)": (one_more_dimension, r"net: its \w+ \w+ shape \(6, 3, 1\).*wanted \(6, C\) for C"),
    "(N / 2, C)": (half_the_rows, r"net: its \w+ \w+ shape \(3, 3\).*wanted \(6, C\) for C"),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_network_whose_output_is_no_table_of_classes(name, output):
    pair, (change, message) = credo.load(name), OUTPUTS[output]
    with pytest.raises(ValueError, match=message):
        credo.fit(pair.model, pair.guide, network(name, change), X, Y, steps=1)


DATA = {
    "rows of another size": ((torch.ones(6, 3), Y), r"x: got .*shape \(6, 3\), which the net does not take"),
    "NaN": ((NAN, Y), r"x: 1 of 12 values are not finite, the first is nan at index \(2, 1\); drop or fill"),
    "no rows": ((X[:0], Y[:0]), r"x is empty: got shape \(0, 2\), wanted at least one row"),
    "whole numbers for pixels": (((10 * X).long(), Y), r"x: got .*int64.*wanted"),
    "a negative label": ((X, Y - 1), r"'y': 2 of 6 .*the first is -1 at index \(0,\); wanted classes 0 to 2"),
    "a label too large": ((X, Y + 1), r"'y': 2 of 6 .*the first is 3 at index \(2,\); wanted classes 0 to 2"),
    "half labels": ((X, Y + 0.5), r"'y': 6 of 6 .*the first is 0\.5 at index \(0,\); wanted classes 0 to 2"),
    "one class only": ((X, torch.ones(6).long()), r"'y': all 6 observations are of class 1; wanted at least two"),
    "labels for some rows": ((X, Y[:4]), r"y: got shape \(4,\) for 6 rows, wanted \(6,\)"),
    "a column of labels": ((X, Y[:, None]), r"y: got shape \(6, 1\) for 6 rows, wanted \(6,\)"),
    "labels as unit vectors": ((X, torch.eye(3)[Y]), r"y: got shape \(6, 3\) for 6 rows, wanted \(6,\)"),
    "no labels": ((X,), r"the model observes nothing"),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("what", DATA)
def test_data_that_a_classifier_cannot_learn_from(name, what):
    pair, (data, message) = credo.load(name), DATA[what]
    net = network(name)
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(ValueError, match=message):
        credo.fit(pair.model, pair.guide, net, *data, steps=1)
    assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("net", [nn.Flatten(), None, torch.relu, X], ids=["no weights", "None", "function", "tensor"])
def test_what_is_no_network_with_weights(name, net):
    pair = credo.load(name)
    with pytest.raises(ValueError, match=r"net: got \w+, wanted a torch.nn.Module"):
        credo.fit(pair.model, pair.guide, net, X, Y, steps=1)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_whole_numbers_stored_as_floats_are_labels(name):
    pair, net = credo.load(name), network(name)
    whole, floats = (credo.fit(pair.model, pair.guide, net, X, y, steps=2) for y in (Y, Y.float()))
    assert whole.losses == floats.losses


@pytest.mark.parametrize("name", [*CLASSIFIERS, "vae"])
def test_a_batch_of_more_rows_than_there_are(name):
    pair = credo.load(name)
    data = (network(name), X, Y) if name != "vae" else (nn.Linear(8, 2), nn.Linear(2, 16), (X > 0).float())
    with pytest.raises(ValueError, match=r"batch_size: got 7, but x has 6 rows; wanted at most 6"):
        credo.fit(pair.model, pair.guide, *data, steps=1, batch_size=7)


INK = (X > 0).float()
VAE = {
    "images of another size": (
        nn.Linear(8, 2),
        nn.Linear(2, 16),
        torch.ones(6, 3),
        r"x: got .*shape \(6, 3\), which the",
    ),
    "a decoder for others": (nn.Linear(8, 5), nn.Linear(2, 16), INK, r"decoder: gives shape \(6, 5\).*x has \(6, 2\)"),
    "an encoder for fewer": (nn.Linear(8, 2), nn.Linear(2, 8), INK, r"encoder: gives shape \(6, 8\).*wanted \(6, 16\)"),
    "NaN": (nn.Linear(8, 2), nn.Linear(2, 16), NAN, r"x: 1 of 12 values are not finite, the first is nan"),
    "whole numbers": (nn.Linear(8, 2), nn.Linear(2, 16), INK.long(), r"x: got .*int64.*wanted"),
    "(N,)": (Then(nn.Linear(8, 2), first_column), nn.Linear(2, 16), INK, r"decoder: gives shape \(6,\)"),
    "(N, 1)": (Then(nn.Linear(8, 2), first_column_kept), nn.Linear(2, 16), INK, r"decoder: gives shape \(6, 1\)"),
    "(N, D, 1)": (
        Then(nn.Linear(8, 2), one_more_dimension),
        nn.Linear(2, 16),
        INK,
        r"decoder: gives shape \(6, 2, 1\)",
    ),
    "code (N / 2, K)": (nn.Linear(8, 2), Then(nn.Linear(2, 16), half_the_rows), INK, r"encoder: gives shape \(3, 16\)"),
    "no decoder": (None, nn.Linear(2, 16), INK, r"decoder: got NoneType, wanted a torch.nn.Module"),
    "no encoder": (nn.Linear(8, 2), None, INK, r"encoder: got NoneType, wanted a torch.nn.Module"),
}


@pytest.mark.parametrize("what", VAE)
def test_data_that_an_autoencoder_cannot_learn_from(what):
    pair, (*data, message) = credo.load("vae"), VAE[what]
    with pytest.raises(ValueError, match=message):
        credo.fit(pair.model, pair.guide, *data, steps=1)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0, 2.0]}, r"columns \['a'\]; wanted a column 'y'"),
        ({"y": [0, 1]}, "no columns to learn from"),
        ({"a": ["u", "v"], "y": [0, 1]}, r"column 'a' holds .*wanted numbers"),
        ({"a": [1.0, None], "y": [0, 1]}, "column 'a' has 1 missing or infinite"),
        ({"a": [1.0, float("inf")], "y": [0, 1]}, "column 'a' has 1 missing or infinite"),
        ({"a": [1.0, 2.0], "y": [0.5, 1.0]}, "column 'y': wanted whole numbers from 0"),
        ({"a": [1.0, 2.0], "y": [-1, 1]}, "column 'y': wanted whole numbers from 0"),
        ({"a": [1.0, 2.0], "y": ["u", "v"]}, "column 'y': wanted whole numbers from 0"),
        ({"a": [1.0, 2.0], "y": [None, 1.0]}, "column 'y': wanted whole numbers from 0"),
        ({"a": [1.0, 2.0], "y": [3, 3]}, r"column 'y' holds one class only \(3\)"),
    ],
)
def test_a_table_that_cannot_be_learnt_from(name, columns, message):
    with pytest.raises(ValueError, match=message):
        credo.load(name).data(pd.DataFrame(columns))
