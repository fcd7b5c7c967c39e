"""A model and a guide that cannot be called alike are refused before they run."""

import functools

import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from tests.cases.checked import X, belief, look, warned, world


def regression(x, y):
    world(y)


def swapped(y, x):
    belief(x)


@pytest.mark.parametrize(
    ("guide", "words"),
    [
        (belief, r"the guide takes the arguments \(x\), but the data has 2 \(x, y\)"),
        (lambda: None, r"the guide takes the arguments \(\)"),
        (swapped, r"another order \(y, x\) than the model \(x, y\)"),
    ],
)
def test_a_guide_that_takes_other_arguments_is_refused(guide, words):
    with pytest.raises(ValueError, match=words):
        look(regression, guide, X, X)


def test_a_model_that_takes_other_arguments_is_refused():
    with pytest.raises(ValueError, match=r"the model takes the arguments \(x, y\), but the data has 1 \(x\): missing"):
        look(regression, lambda *data: belief(*data), X)


@pytest.mark.parametrize(
    "guide",
    [
        lambda x, y: belief(x),
        lambda inputs, targets: belief(inputs),
        lambda *data: belief(data[0]),
        lambda x, y=None, scale=1.0: belief(x),
        functools.partial(lambda scale, x, y: belief(x), 1.0),
        AutoNormal(regression),
    ],
)
def test_other_names_defaults_and_variable_arguments_are_fine(guide):
    assert warned(regression, guide, X, X + torch.tensor(1.0)) == ""
