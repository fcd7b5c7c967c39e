"""A chunk as tensors: the types of the first rows, labels by their codes, values that are not finite by their row."""

import numpy as np
import pandas as pd
import pytest
import torch

from credo.inference.streaming.convert import Form, as_tensors, like_first, refuse_not_finite

FORM = Form(["x", "g"], {"g": ["a", "b"]}, (torch.float32, torch.int64), (torch.Size([2]), torch.Size([])))
ROWS = slice(1000, 1002)
G = pd.Series(["b", "a"], name="g")


def test_values_become_tensors_of_the_first_rows_types():
    x, g = as_tensors(FORM, (np.array([[1, 2], [3, 4]]), G), ROWS)
    assert x.dtype == torch.float32 and x.tolist() == [[1, 2], [3, 4]] and g.tolist() == [1, 0]
    form = Form(["y"], {}, (torch.bool,), (torch.Size([]),))
    assert as_tensors(form, ([1, 0],), ROWS)[0].tolist() == [True, False]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((np.ones((2, 2)), pd.Series(["a", "new"])), r"the fit has not seen the label 'new'.*\(rows 1,000 to 1,001\)"),
        ((np.ones((2, 3)), G), r"x: rows 1,000 to 1,001 have shape \(3,\) each, and the first rows \(2,\)"),
        ((np.ones((1, 2)), G), "x: got 1 rows where rows 1,000 to 1,001 were to be read"),
        ((np.ones((2, 2)), np.array([0.5, 1])), "g: rows 1,000 to 1,001 hold torch.float64 where .* torch.int64"),
        ((np.ones((2, 2)) * 1j, G), "x: .* hold torch.complex128 where the first rows hold torch.float32"),
        (
            (np.ones((2, 2)), np.array([1, np.nan])),
            r"g: the value of row 1,001 is missing; drop .* 1,000 to",
        ),
        ((object(), G), "x: got object, wanted an array with a number or more for each row"),
    ],
)
def test_rows_that_are_not_as_the_first_are_named(values, said):
    with pytest.raises(ValueError, match=said):
        as_tensors(FORM, values, ROWS)


def test_columns_come_in_the_order_of_the_first_rows():
    first = (pd.DataFrame({"a": [1], "b": [2]}), np.ones(1))
    table, y = like_first(first, (pd.DataFrame({"b": [20], "a": [10]}), np.zeros(1)), ROWS, more=False)
    assert table.to_numpy().tolist() == [[10, 20]] and y.tolist() == [0]
    wider = (pd.DataFrame({"c": [30], "b": [20], "a": [10]}), np.zeros(1))
    assert list(like_first(first, wider, ROWS, more=True)[0]) == ["a", "b"]
    for values, said in (
        (wider, r"data: rows 1,000 to 1,001 have a column 'c', and the first rows have none"),
        ((pd.DataFrame({"a": [10]}), np.zeros(1)), r"data: rows 1,000 to 1,001 have no column 'b', and"),
        (wider[:1], "data: rows 1,000 to 1,001 come in 1 parts, and the first rows in 2"),
    ):
        with pytest.raises(ValueError, match=said):
            like_first(first, values, ROWS, more=False)


def test_the_row_of_a_value_that_is_not_finite():
    x = torch.ones(5, 2, 3)
    refuse_not_finite("x", x, ROWS, 9)
    refuse_not_finite("x", torch.full((5,), torch.finfo(torch.float32).max), ROWS, 9)  # only the sum is infinite
    refuse_not_finite("x", torch.ones(3, dtype=torch.int64), ROWS, 9)
    x[3, 1, 2] = torch.inf
    with pytest.raises(
        ValueError, match=r"x: 1 values in rows 1,000 to 1,004 .*the first is inf at row 1,003, entry 5"
    ):
        refuse_not_finite("x", x, slice(1000, 1005), 2000)
