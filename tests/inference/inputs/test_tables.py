"""Columns go to the arguments of their names, and rows that belong together stay together."""

import numpy as np
import pandas as pd
import pytest

from credo.inference.inputs.tables import as_table, by_column, in_order, paired_by_index


def model(inputs, weight=None, y=None, *, scale=1.0):
    """A matrix, and two arguments that may be left out."""


def table(*names):
    return pd.DataFrame({name: [1.0, 2.0] for name in names})


@pytest.mark.parametrize(
    ("columns", "close"),
    [
        (("a", "wieght", "y"), "'weight', .*'wieght'"),
        (("a", "Weight", "y"), "'weight', .*'Weight'"),
        (("a", "weights", "y"), "'weight', .*'weights'"),
        (("a", "y", "weight "), "'weight', .*'weight '"),
        (("inptus", "b", "y"), "'inputs', .*'inptus'"),
        (("input", "b", "y"), "'inputs', .*'input'"),
    ],
)
def test_a_slip_in_the_name_of_a_column_is_refused_with_both_names(columns, close):
    with pytest.raises(ValueError, match=f"no column {close}"):
        by_column(model, table(*columns))


def test_a_model_of_one_argument_gets_no_matrix_unasked_and_the_error_says_how_to_ask():
    with pytest.raises(ValueError, match=r"got columns \['a', 'b'\], wanted \['x'\].*one matrix, table.to_numpy\(\)\."):
        by_column(lambda x: None, pd.DataFrame({"a": [1.0], "b": [2.0]}))


def test_blanks_and_capitals_in_the_names_of_columns_are_pointed_out():
    def model(x, y): ...

    with pytest.raises(ValueError, match=r"no column 'x', an argument of the model; did you mean ' x '\?"):
        by_column(model, table(" x ", " y"))
    with pytest.raises(ValueError, match=r"got columns \['X', 'Y'\], wanted \['x', 'y'\], which may be 'X', 'Y'\."):
        by_column(model, table("X", "Y"))
    with pytest.raises(ValueError, match=r"got columns \['a', 'b'\], wanted \['x', 'y'\]\. "):
        by_column(model, table("a", "b"))


@pytest.mark.parametrize(
    "columns",
    [
        ("a", "b", "y"),
        ("x1", "x2", "x3", "weight"),
        ("input1", "input2", "y"),
        ("input_1", "input_2", "y"),
        ("age", "wage", "height"),
        ("Inputa", "Inputb", "y"),
        ("id", "task", "mask", "y"),
    ],
)
def test_other_columns_are_the_inputs(columns):
    inputs = by_column(model, table(*columns))[0]
    assert list(inputs.columns) == [c for c in columns if c not in ("weight", "y")]


def test_x_and_X_are_a_vector_and_a_matrix():
    (x,) = by_column(lambda X: None, table("X"))
    assert x.shape == (2,)
    X, y = by_column(lambda X, y: None, table("x", "y"))
    assert X.shape == (2, 1) and y.shape == (2,)


@pytest.mark.parametrize("numbers", [[0, 1], [1, 2]], ids=["pandas", "R"])
def test_row_numbers_without_a_name_are_no_inputs(numbers):
    named = table("a", "y").assign(**{"Unnamed: 0": numbers})
    assert list(by_column(model, named)[0].columns) == ["a"]
    assert list(by_column(model, named.assign(**{"Unnamed: 0": [1, 3]}))[0].columns) == ["a", "Unnamed: 0"]


def test_two_columns_of_a_name_are_refused():
    with pytest.raises(ValueError, match="two columns called 'y'"):
        by_column(model, pd.DataFrame([[1, 2]], columns=["y", "y"]))


def test_columns_come_in_the_order_of_the_fit():
    (found,) = in_order(["x"], (table("b", "a"),), (["a", "b"],))
    assert list(found.columns) == ["a", "b"]
    with pytest.raises(ValueError, match=r"x: wanted the columns of the fit, .*missing \['b'\], not known \['c'\]"):
        in_order(["x"], (table("a", "c"),), (["a", "b"],))


DAYS = pd.date_range("2026-01-01", periods=4)


def test_rows_are_paired_by_their_labels():
    x = pd.Series([1.0, 2.0, 3.0, 4.0], DAYS)
    y = (10 * x).iloc[::-1]
    table = pd.DataFrame({"a": x}).sample(frac=1, random_state=1)
    one, two, three = paired_by_index(["x", "y", "t"], (x, y, table))
    assert one is x and two.tolist() == [10, 20, 30, 40] and three["a"].tolist() == [1, 2, 3, 4]


COUNTED = pd.Series(np.arange(4.0))
UNCLEAR = {
    "shuffled": (COUNTED, COUNTED.iloc[::-1]),
    "other rows": (COUNTED, COUNTED.set_axis([4, 5, 6, 7])),
    "a row apart": (COUNTED.set_axis(DAYS), COUNTED.set_axis(DAYS + pd.Timedelta(days=1))),
    "labels that repeat": (COUNTED.set_axis([1, 1, 2, 3]), COUNTED.set_axis([1, 2, 2, 3])),
    "a table": (COUNTED, pd.DataFrame({"a": COUNTED.iloc[::-1]})),
}


@pytest.mark.parametrize(("x", "y"), UNCLEAR.values(), ids=UNCLEAR)
def test_rows_that_may_not_belong_together_are_refused_with_both_names(x, y):
    with pytest.raises(ValueError, match=r"x and y .* different indexes.*y.loc\[x.index\].*to_numpy"):
        paired_by_index(["x", "y"], (x, y))


SOUND = {
    "the same index": (COUNTED.iloc[::-1], 2 * COUNTED.iloc[::-1]),
    "the same labels that repeat": (COUNTED.set_axis([1, 1, 2, 3]), COUNTED.set_axis([1, 1, 2, 3])),
    "another length": (COUNTED, COUNTED.iloc[:3]),
    "labels beside none": (COUNTED, COUNTED.set_axis(list("abcd"))),
    "dates beside none": (COUNTED.set_axis(DAYS), COUNTED),
    "an array": (COUNTED.iloc[::-1], COUNTED.to_numpy()),
}


@pytest.mark.parametrize(("x", "y"), SOUND.values(), ids=SOUND)
def test_other_rows_are_paired_by_position(x, y):
    one, two = paired_by_index(["x", "y"], (x, y))
    assert one is x and two is y


class Frame:
    """A table of another library."""

    columns = ("a", "b")

    def __dataframe__(self):
        """The interchange protocol."""

    def __getitem__(self, label):
        return {"a": [1, 2], "b": [0.5, 1.5]}[label]


def test_tables_of_other_libraries_and_structured_arrays_become_pandas():
    assert as_table(Frame()).to_dict("list") == {"a": [1, 2], "b": [0.5, 1.5]}
    array = np.array([(1, 0.5), (2, 1.5)], dtype=[("a", int), ("b", float)])
    assert as_table(array).to_dict("list") == {"a": [1, 2], "b": [0.5, 1.5]}
    assert as_table(COUNTED) is COUNTED


def test_a_field_of_several_numbers_is_named_with_the_way_to_pass_it():
    fields = np.zeros(3, dtype=[("x", "f4"), ("y", "f4", (2,))])
    with pytest.raises(ValueError, match=r"field 'y' of a structured array has shape \(2,\) in each row.*array\['y'\]"):
        as_table(fields)


def test_the_table_of_a_prediction_may_lack_what_is_predicted():
    def both(x, y): ...

    assert [v.name for v in by_column(both, table("x"), whole=False)] == ["x"]
    (inputs,) = by_column(both, table("a", "b"), whole=False)
    assert list(inputs.columns) == ["a", "b"]
    with pytest.raises(ValueError, match="no column 'y'"):
        by_column(both, table("x"))
    with pytest.raises(ValueError, match="no column 'x'"):  # y is there, so what comes before it must be
        by_column(both, table("y"), whole=False)


def test_arrays_of_xarray_are_arrays_and_variables_of_one_dimension_columns():
    xarray = pytest.importorskip("xarray")
    array = xarray.DataArray(np.zeros((2, 3)), dims=("N", "D"))
    assert as_table(array) is array
    data = xarray.Dataset({"x": ("N", [1.0, 2.0]), "g": ("N", ["a", "b"])}, coords={"N": ["r", "s"]})
    assert as_table(data).to_dict("list") == {"x": [1.0, 2.0], "g": ["a", "b"]} and list(as_table(data).index) == [
        "r",
        "s",
    ]
    assert as_table(xarray.Dataset({"x": array})) is not None
