"""The names of a model's arguments: data by name, and arguments that are missing."""

import functools
from pathlib import Path

import pytest
from torch import nn

from credo.inference.inputs.call import (
    argument_names,
    by_name,
    refuse_other_keys,
    refuse_wrong_number,
    required,
    settings_of,
)


def model(x, y=None, scale=1.0, *, flag=False):
    """A required argument, one to predict, and settings."""


class Network(nn.Module):
    def forward(self, x, y=None):
        """As a PyroModule is written."""


def test_names_settings_and_required_arguments():
    assert argument_names(model, 4) == ["x", "y", "scale", "argument 4"]
    assert argument_names(Network(), 1) == ["x"]
    assert settings_of(model) == {"scale", "flag"} and required(model) == {"x"}
    assert argument_names(print, 1) == ["argument 1"]


def test_data_by_name_stands_at_its_place():
    assert by_name(model, (1,), {"y": 2}) == (1, 2)
    assert by_name(model, (), {"y": 2, "x": 1}) == (1, 2)
    assert by_name(model, (1,), {"scale": 3.0}) == (1, None, 3.0)
    assert by_name(model, (1, 2), {}) == (1, 2)


@pytest.mark.parametrize(
    ("data", "named", "message"),
    [
        ((1,), {"stpes": 3}, "'stpes'.*did you mean 'steps'"),
        ((1,), {"yy": 3}, "'yy'.*did you mean 'y'"),
        ((1,), {"Y": 3}, "'Y'.*did you mean 'y'"),
        ((1,), {"zebra": 3}, "unexpected keyword argument 'zebra': no option, nor an argument of the model$"),
        ((1,), {"steps": 3}, "'steps': no option, nor an argument of the model$"),  # of another call, as that of a plan
        ((1,), {"x": 3}, "x: got two values"),
        ((), {"y": 3}, "x: this argument of the model is missing; pass it before y"),
        ((1,), {"flag": True}, r"flag: the model takes it by keyword only.*functools.partial\(model, flag"),
    ],
)
def test_a_name_that_fits_nowhere_is_refused(data, named, message):
    with pytest.raises(TypeError, match=message):
        by_name(model, data, named, options=("steps", "seed"))


def test_too_few_and_too_many_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="no data: the model wants x; pass"):
        refuse_wrong_number(model, ())
    with pytest.raises(ValueError, match="b: this argument of the model is missing; got a"):
        refuse_wrong_number(lambda a, b: None, (1,))
    with pytest.raises(ValueError, match=r"b: .* missing; got a, the text 'rows.csv'; .* pathlib.Path\('rows.csv'\)"):
        refuse_wrong_number(lambda a, b: None, ("rows.csv",))
    with pytest.raises(ValueError, match=r"b: .* missing; got a, the path 'rows.tsv'; .*names end with .csv"):
        refuse_wrong_number(lambda a, b: None, (Path("rows.tsv"),))
    with pytest.raises(ValueError, match="got 4 arguments of data, and the model takes 3: x, y, scale"):
        refuse_wrong_number(model, (1, 2, 3, 4))
    with pytest.raises(ValueError, match="got 1 arguments of data, and the model takes 0; leave them out"):
        refuse_wrong_number(lambda: None, (1,))


def test_calls_that_fit_are_not_refused():
    for program, data in (
        (model, (1,)),
        (model, (1, 2, 3)),
        (lambda: None, ()),
        (lambda *data: None, (1, 2, 3)),
        (functools.partial(model, scale=2.0), (1, 2)),
        (functools.partial(model, 1), (2,)),
        (Network(), (1, 2)),
        (print, (1, 2, 3)),
        (dict, (1, 2, 3)),  # no signature
    ):
        refuse_wrong_number(program, data)


def test_a_dictionary_alone_without_the_names_of_the_arguments_is_refused():
    with pytest.raises(
        ValueError, match=r"x: the dictionary has no entry of this name.*\['X', 'Y'\], wanted \['x', 'y'\]"
    ):
        refuse_other_keys(lambda x, y: None, ({"X": 1, "Y": 2},))
    refuse_other_keys(lambda data: None, ({"X": 1, "Y": 2},))  # the model's own
    refuse_other_keys(lambda data, y=None: None, ({"X": 1, "Y": 2},))
    refuse_other_keys(lambda data, y: None, ({"X": 1}, 2))
