"""A call of the same form as the last: its tensors are read at once; of another form, it is taken in full."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from torch import nn

from credo.inference.capture.same_form import Call, same_form
from credo.inference.inputs.arguments import arguments

X, Y = torch.arange(6.0).reshape(3, 2), torch.tensor([1.0, 0.0, 1.0])


def model(x, y, setting=None):
    pass


def form(*data, rows=None, gaps=(), **named):
    call = Call(data, named, rows)
    at_their_places = (*data, *named.values()) if list(named) != ["y", "x"] else (named["x"], named["y"])
    given = arguments(model, at_their_places, torch.float32, torch.device("cpu"), gaps=gaps)
    return same_form(call, given, gaps)


def tensors(found, *data, rows=None, **named):
    return found.tensors(Call(data, named, rows))


def test_other_values_have_the_same_form():
    found = form(X, Y)
    same = tensors(found, X, Y)
    assert same[0] is X and same[1] is Y and not found.other and not found.changed
    new = X + 1
    for _ in range(2):  # what a step that is not taken has seen is still new
        assert tensors(found, new, Y)[0] is new and found.other and found.changed
    found.accept()
    assert tensors(found, new, Y)[0] is new and not found.other and not found.changed
    new.add_(1)
    assert tensors(found, new, Y)[0] is new and not found.other and found.changed


@pytest.mark.parametrize(
    "other",
    [X[:2], X.T.contiguous().T, X.double(), X.int(), X.clone().requires_grad_(), X.tolist(), None, X[0]]
    + [torch.full((3, 2), value) for value in (torch.nan, torch.inf)],
    ids=["rows", "strides", "double", "int", "gradient", "list", "None", "vector", "NaN", "infinite"],
)
def test_another_form_is_taken_in_full(other):
    assert tensors(form(X, Y), other, Y) is None


def test_a_tensor_whose_memory_was_replaced_is_looked_at_again():
    x = X.clone()
    found = form(x, Y)
    x.data = torch.zeros(5)
    assert tensors(found, x, Y) is None


def test_arguments_that_may_hold_gaps_are_not_searched_for_them():
    with_gap = X.clone()
    with_gap[0, 0] = torch.nan
    assert tensors(form(with_gap, Y, gaps=("x",)), with_gap.clone(), Y) is not None
    assert tensors(form(X, Y, gaps=("x",)), X, torch.full((3,), torch.nan)) is None


def test_double_precision_is_converted_at_each_call():
    """Memory that is shared with NumPy changes without a word."""
    array = np.ones((3, 2))
    x = torch.from_numpy(array)
    found = form(x, Y)
    assert tensors(found, x, Y)[0].dtype == torch.float32
    array[:] = 5.0
    assert tensors(found, x, Y)[0].eq(5).all() and found.changed and not found.other


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_an_array_is_read_at_each_call(dtype):
    array, kind = np.ones((3, 2), dtype), torch.int64 if dtype is np.int32 else torch.float32
    found = form(array, Y)
    for value in (1.0, 2.0):
        array[:] = value
        x, y = tensors(found, array, Y)
        assert x.dtype == kind and x.eq(value).all() and y is Y and found.changed and not found.other
    if kind is torch.float32:
        array[0] = np.inf
        assert tensors(found, array, Y) is None


@pytest.mark.parametrize(
    "array",
    [np.ones((2, 3)).T, np.ones((3, 2), ">f8"), np.ones((3, 2), np.uint16), np.ma.ones((3, 2))],
    ids=["strides", "big-endian", "unsigned", "masked"],
)
def test_an_array_that_torch_cannot_read_where_it_is_is_taken_in_full(array):
    assert form(array, Y) is None and tensors(form(X, Y), array, Y) is None


def test_what_another_form_holds_is_not_remembered():
    found = form(X, Y)
    new = X + 1
    assert tensors(found, new, Y[:2]) is None
    assert tensors(found, new, Y)[0] is new and found.other


def test_one_tensor_twice_is_another_form_than_two():
    square = torch.ones(3)
    assert form(square, square) is None
    found = form(Y, square)
    assert tensors(found, Y, square) is not None and tensors(found, Y, Y) is None


NET, SET = nn.Linear(1, 1), Namespace(rate=0.5, deep=True)


@pytest.mark.parametrize(
    ("setting", "other"),
    [(1, 2), (1, True), (0.5, 0.25), ("a", "b"), (None, 1), (NET, nn.Linear(1, 1)), (torch.float32, torch.float64)],
    ids=["int", "bool", "float", "text", "None", "network", "dtype"],
)
def test_settings_are_compared(setting, other):
    found = form(X, Y, setting)
    assert tensors(found, X, Y, setting) is not None and tensors(found, X, Y, other) is None
    assert tensors(found, X, Y) is None


def test_a_namespace_of_settings_is_compared_by_what_it_holds():
    settings = Namespace(rate=0.5, deep=True)
    found = form(X, Y, settings)
    assert tensors(found, X, Y, settings) is not None
    for change in ({"rate": 0.25}, {"more": 1}):
        changed = Namespace(**vars(settings))
        found = form(X, Y, changed)
        vars(changed).update(change)
        assert tensors(found, X, Y, changed) is None
    assert tensors(form(X, Y, settings), X, Y, Namespace(rate=0.5, deep=True)) is None, "another object"


@pytest.mark.parametrize("setting", [[1.0], {"a": X}, Namespace(x=X)], ids=["list", "dict", "holds a tensor"])
def test_what_takes_long_to_compare_has_no_form(setting):
    assert form(X, Y, setting) is None


def test_arguments_by_name_come_in_the_order_of_the_model():
    found = form(y=Y, x=X)
    assert [t.shape for t in tensors(found, y=Y, x=X)] == [X.shape, Y.shape]
    assert tensors(found, X, Y) is None and tensors(found, x=X, y=Y) is None


def test_the_number_of_all_rows_belongs_to_the_form():
    found = form(X, Y, rows=30)
    assert tensors(found, X, Y, rows=30) is not None and tensors(found, X, Y) is None
