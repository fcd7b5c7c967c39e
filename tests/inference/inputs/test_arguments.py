"""Data as people hold it comes in as the tensors it means, or is refused by name."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import credo
from credo.inference.inputs.arguments import argument_names, by_column, tensors
from credo.inference.runtime.defaults import choose_device


def model(x, y=None, *, scale=1.0):
    """Two data arguments, one of them optional, and a setting."""


def single(flips, alpha=1.0):
    """One data argument and a setting."""


def two(x, y):
    """Two data arguments, both required."""


def convert(*data, of=model, dtype=torch.float32):
    return tensors(of, data, dtype, torch.device("cpu"))


FLOATS = [1.5, -2.0, 3.25]
INTS = [3, 0, 2]


@pytest.mark.parametrize("kind", [np.asarray, pd.Series, torch.tensor], ids=["numpy", "pandas", "torch"])
@pytest.mark.parametrize(("values", "dtype"), [(FLOATS, torch.float32), (INTS, torch.int64)])
def test_values_survive_and_integers_stay_integers(kind, values, dtype):
    (x,) = convert(kind(values))
    assert x.dtype == dtype and x.tolist() == values


def test_floating_point_takes_the_dtype_asked_for():
    assert convert(np.asarray(FLOATS), dtype=torch.float64)[0].dtype == torch.float64
    assert convert(torch.tensor(FLOATS, dtype=torch.float16))[0].dtype == torch.float32


def test_booleans_stay_booleans_and_other_objects_pass_unchanged():
    net = nn.Linear(1, 1)
    x, y = convert(np.asarray([True, False]), net)
    assert x.dtype == torch.bool and y is net


def test_the_callers_array_is_not_shared():
    array = np.asarray(FLOATS, dtype=np.float32)
    (x,) = convert(array)
    x[0] = 7
    assert array[0] == 1.5


TABLE = pd.DataFrame({"a": [1, 2, 3], "b": FLOATS, "y": [4.0, 5.0, 6.0]})


def test_columns_go_to_the_arguments_of_their_names_and_the_rest_to_one_that_names_none():
    x, y = convert(TABLE)
    assert x.tolist() == [[1.0, 1.5], [2.0, -2.0], [3.0, 3.25]] and y.tolist() == [4.0, 5.0, 6.0]
    (x,) = convert(TABLE[["a", "b"]])  # y has a default: nothing is observed
    assert x.shape == (3, 2)


def test_a_table_beside_other_arguments_is_a_matrix():
    x, y = convert(TABLE[["a", "b"]], TABLE["y"], of=two)
    assert x.shape == (3, 2) and y.shape == (3,)
    assert convert(TABLE[["a"]], TABLE["y"])[0].dtype == torch.int64


@pytest.mark.parametrize(
    ("function", "table", "words"),
    [
        (single, TABLE, ["'flips'", "['a', 'b', 'y']"]),
        (two, TABLE[["a", "b"]], ["'x'", "['a', 'b']"]),
        (two, TABLE[["y"]], ["'x'", "['y']"]),
        (single, pd.DataFrame(), ["flips"]),
    ],
)
def test_a_missing_column_is_named_with_those_that_came(function, table, words):
    with pytest.raises(ValueError) as caught:
        by_column(function, table)
    for word in words:
        assert word in str(caught.value)


def test_nullable_integers_are_integers_unless_one_is_missing():
    assert convert(pd.Series([1, 2, 3], dtype="Int64"))[0].dtype == torch.int64
    with pytest.raises(ValueError, match=r"x: 1 of 3 values are not finite, the first is nan at index \(1,\)"):
        convert(pd.Series([1, None, 3], dtype="Int64"))


BAD = [
    (np.asarray([1.0, np.nan]), r"x: 1 of 2 .* nan at index \(1,\)"),
    (torch.tensor([[1.0, 2.0], [np.inf, np.nan]]), r"x: 2 of 4 .* inf at index \(1, 0\)"),
    (np.zeros((0,)), r"x is empty: got shape \(0,\)"),
    (torch.zeros(3, 0), r"x is empty: got shape \(3, 0\)"),
    (np.asarray(["1", "2"]), "x: got an array of .*, wanted numbers"),
    (pd.Series(["1,5", "2"], name="dose"), "x: column 'dose' .* wanted numbers"),
    (np.asarray(["a", None]), "x: 1 of 2 labels are missing"),
]


@pytest.mark.parametrize(("value", "message"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_learnt_from_is_refused_by_name(value, message, unchanged):
    with pytest.raises(ValueError, match=message):
        convert(value)
    with unchanged(), pytest.raises(ValueError, match=message):
        credo.fit(model, None, value)


def test_names_are_those_of_the_signature():
    assert argument_names(model, 2) == ["x", "y"]
    assert argument_names(lambda *data: None, 2) == ["argument 1", "argument 2"]
    assert argument_names(type("M", (nn.Module,), {"forward": lambda self, x: x})(), 1) == ["x"]


def line(x, y=None, w=1.0):
    dtype = x.dtype if x.is_floating_point() else torch.float32
    z = pyro.sample("z", dist.Normal(torch.zeros((), dtype=dtype), 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(z * x, w), obs=y)


def in_double(x, y=None):
    z = pyro.sample("z", dist.Normal(torch.zeros((), dtype=torch.float64), 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(z * x, 1.0), obs=y)


def double_network(net, x, y=None):
    z = pyro.sample("z", dist.Normal(torch.zeros((), dtype=x.dtype), 1.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(z + net(x[:, None]).squeeze(-1), 1.0), obs=y)


@pytest.mark.parametrize(
    ("function", "first", "dtype"),
    [
        (line, (), torch.float32),
        (in_double, (), torch.float64),
        (double_network, (nn.Linear(1, 1).double().requires_grad_(False),), torch.float64),
    ],
    ids=["single", "latents in double", "network in double"],
)
def test_data_in_double_comes_in_the_precision_of_the_model(function, first, dtype):
    x = np.asarray(FLOATS)
    fit = credo.fit(function, None, *first, x, x, steps=1)
    assert fit.data[-1].dtype == dtype and fit.sample(2)["z"].dtype == dtype


def test_a_default_dtype_of_double_is_kept(double):
    assert credo.fit(line, None, np.asarray(FLOATS), np.asarray(FLOATS), steps=1).data[0].dtype == torch.float64


def test_a_table_is_fitted_by_column_name():
    table = pd.DataFrame({"y": FLOATS, "x": INTS})
    fit = credo.fit(line, None, table, steps=1)
    assert fit.data[0].tolist() == INTS and fit.data[1].tolist() == FLOATS
    with pytest.raises(ValueError, match="observes nothing"):
        credo.fit(line, None, table.rename(columns={"y": "target"})[["x"]])


@pytest.mark.parametrize(
    "device", ["nodevice", 10**30, "meta", 1.5, object()], ids=["word", "large", "meta", "float", "object"]
)
def test_a_device_that_is_none_is_refused_by_name(device):
    with pytest.raises(ValueError, match=r"^device: .* cannot be used here .*; try 'cpu'"):
        choose_device(device)
    assert choose_device("cpu") == torch.device("cpu")
