"""Axes with labels: columns, categories and rows, and the data with their entries in another order."""

import pandas as pd
import pytest
import torch

from credo.inference.inputs.axes import MOST, axes_of, labels_of_rows

X = torch.arange(12.0).reshape(4, 3)
CODES = torch.tensor([0, 2, 1, 2])
ORDER = torch.tensor([1, 2, 0])


def test_columns_of_a_table_are_an_axis():
    (axis,) = axes_of(["x", "y"], (X, CODES), (["bmi", "bp", "age"], None), {}, ())
    assert (axis.kind, axis.name, axis.labels) == ("columns", "x_column", ("bmi", "bp", "age"))
    assert torch.equal(axis.permuted((X, CODES), ORDER)[0], X[:, ORDER])
    assert axis.owns(0, 1, (X, CODES)) and not axis.owns(0, 0, (X, CODES)) and not axis.owns(1, 0, (X, CODES))


def test_categories_are_an_axis_and_keep_what_they_index():
    (axis,) = axes_of(["x", "county"], (X, CODES), (None, None), {"county": ["A", "B", "C"]}, ())
    codes = axis.permuted((X, CODES), ORDER)[1]
    latent = torch.tensor([10.0, 20.0, 30.0])
    assert axis.name == "county" and torch.equal(latent[ORDER][codes], latent[CODES])


@pytest.mark.parametrize("key", ["county", "x.county"])
def test_categories_in_a_matrix_are_found_by_their_column(key):
    matrix = torch.stack([X[:, 0], CODES.float()], 1)
    axes = axes_of(["x"], (matrix,), (["bmi", "county"],), {key: ["A", "B", "C"]}, ())
    assert [axis.kind for axis in axes] == ["columns", "codes"] and axes[1].where == ((0, 1),)
    assert torch.equal(axes[1].permuted((matrix,), ORDER)[0][:, 1], ORDER.argsort()[CODES].float())


def test_two_columns_with_the_same_labels_are_one_axis():
    teams = {"home": ["A", "B", "C"], "away": ["A", "B", "C"]}
    (axis,) = axes_of(["home", "away"], (CODES, CODES), (None, None), teams, ())
    assert axis.where == ((0, None), (1, None))


def test_rows_have_the_labels_of_their_index():
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=["r", "s"])
    assert labels_of_rows(frame) == labels_of_rows(frame["a"]) == ["r", "s"]
    (axis,) = axes_of(["x", "y", "w"], (X[:2], CODES[:2], X), (), {}, (["r", "s"], None, None))
    assert axis.where == ((0, None), (1, None))
    x, y, w = axis.permuted((X[:2], CODES[:2], X), torch.tensor([1, 0]))
    assert torch.equal(x, X[[1, 0]]) and torch.equal(y, CODES[[1, 0]]) and torch.equal(w, X)


@pytest.mark.parametrize(
    ("index", "labels"),
    [
        ([5, 7], [5, 7]),
        (pd.date_range("2020-01-31", periods=2), ["2020-01-31", "2020-02-01"]),
        (pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]), [("a", 1), ("a", 2)]),
        ([1.5, 2.5], ["1.5", "2.5"]),
        (pd.RangeIndex(1, 3), [1, 2]),
    ],
    ids=["numbers", "dates", "levels", "floats", "from one"],
)
def test_labels_of_rows_are_numbers_text_or_levels(index, labels):
    assert labels_of_rows(pd.Series([1.0, 2.0], index=index)) == labels


def test_rows_without_labels_of_their_own_have_none():
    assert labels_of_rows(pd.Series([1.0, 2.0])) is None
    assert labels_of_rows(X) is None
    assert labels_of_rows(pd.Series(0.0, index=range(1, MOST + 2))) is None


def test_labels_that_do_not_differ_are_no_axis():
    assert axes_of(["x"], (X,), (["a", "a", "b"],), {}, (["r", "r", "s", "t"],)) == []
    assert axes_of(["x"], (X,), ([1, "1", "b"],), {}, ()) == []
    assert axes_of(["x", "y"], (X, CODES), (), {}, (["a", "b", "c", "d"], ["b", "a", "c", "d"])) == []


@pytest.mark.parametrize("k", [3, 4, 5])
def test_nothing_but_the_identity_commutes_with_all_orders(k):
    orders = axes_of(["x"], (torch.zeros(2, k),), ([*"abcdef"][:k],), {}, ())[0].orders
    for moved in (torch.arange(k).flip(0), torch.arange(k).roll(1), *orders):
        assert any(not torch.equal(moved[order], order[moved]) for order in orders)


def test_categories_of_no_row_stay_where_they_are():
    full, short = axes_of(["g"], (torch.tensor([1, 3, 4, 1]),), (), {"g": [*"abcdefg"]}, ())
    assert full.labels == tuple("abcdefg") and short.labels == tuple("abcde") and full.used == short.used == (1, 3, 4)
    for order in (*full.orders, *short.orders):
        assert order[0] == 0 and order[2] == 2 and set(order[[1, 3, 4]].tolist()) == {1, 3, 4}
    assert [len(order) for order in short.orders] == [5, 5]
