"""Columns of every type that people hold: the numbers that they mean, or a refusal by name."""

import collections
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from credo.inference.inputs.columns import as_numbers

DAYS = pd.date_range("2026-01-01", periods=3)

SAME = {
    "bool": (pd.Series([True, False]), "b"),
    "nullable bool": (pd.Series([True, False], dtype="boolean"), "b"),
    "objects that are bool": (pd.Series([True, False], dtype=object), "b"),
    "sparse bool": (pd.Series([True, False], dtype=pd.SparseDtype(bool)), "b"),
    "list of bool": ([True, False], "b"),
    "nullable int": (pd.Series([3, 1], dtype="Int64"), "i"),
    "int8": (np.array([3, 1], np.int8), "i"),
    "uint64": (np.array([3, 1], np.uint64), "i"),
    "big-endian int": (np.array([3, 1], ">i4"), "i"),
    "objects that are int": (np.array([3, 1], object), "i"),
    "list of NumPy int": ([np.int32(3), np.int64(1)], "i"),
    "deque": (collections.deque([3, 1]), "i"),
    "index": (pd.Index([3, 1]), "i"),
    "nullable float": (pd.Series([1.5, 2.0], dtype="Float64"), "f"),
    "big-endian float": (np.array([1.5, 2.0], ">f8"), "f"),
    "long double": (np.array([1.5, 2.0], np.longdouble), "f"),
    "sparse float": (pd.Series([0.0, 1.0], dtype=pd.SparseDtype(float)), "f"),
    "decimal": (pd.Series([Decimal("1.5"), Decimal("2")]), "f"),
    "objects that are float": (np.array([1, 2.5], object), "f"),
    "list of NumPy float": ([np.float32(1.5), np.float64(2)], "f"),
    "lists": ([[1.5, 2], [3, 4]], "f"),
    "list of arrays": ([np.array([1.5, 2]), np.array([3.0, 4])], "f"),
    "an array whose mask is empty": (np.ma.masked_array([1.5, 2.0]), "f"),
    "sparse matrix": (sparse.csr_matrix(np.eye(2)), "f"),
    "complex": (np.array([1j, 2]), "c"),
}


@pytest.mark.parametrize(("value", "kind"), SAME.values(), ids=SAME)
def test_values_and_kind_survive(value, kind):
    found = as_numbers("x", value)
    assert found.dtype.kind == kind and found.dtype.isnative and found.dtype.itemsize <= 16
    assert kind != "i" or found.dtype == np.int64
    wanted = value.toarray() if sparse.issparse(value) else np.array(list(value), dtype=found.dtype)
    assert (found == wanted).all()
    torch.from_numpy(found)  # torch takes it, and may write to it
    assert found.flags.writeable


def test_a_missing_number_is_nan():
    for column in (pd.Series([1, None], dtype="Int64"), pd.Series([1.0, None], dtype="Float64"), pd.Series([1, None])):
        assert np.isnan(as_numbers("x", column)).tolist() == [False, True]
    assert np.isnan(as_numbers("x", np.array([[1, None]], object))).tolist() == [[False, True]]


BAD = {
    "mask": (np.ma.masked_array([2.0, 999.0], mask=[0, 1]), r"x: 1 of 2 values are masked; pass x.compressed\(\)"),
    "missing bool": (pd.Series([True, None], dtype="boolean"), "x: 1 of 2 values are missing, wanted True or False"),
    "dates": (pd.Series(DAYS, name="day"), "x: column 'day' holds datetime64.*wanted numbers; pass the time since"),
    "NumPy dates": (DAYS.to_numpy(), "x holds datetime64.*wanted numbers"),
    "periods": (pd.Series(DAYS.to_period("D")), "x holds period.*wanted numbers; pass the time since"),
    "times": (pd.Series(DAYS - DAYS[0]), "x holds timedelta64.*divide it by a unit"),
    "categories without codes": (pd.Series(["a", "b"], dtype="category"), "x holds category, wanted numbers"),
    "text without codes": (pd.Series(["a", "b"]), "x holds str.*wanted numbers"),
    "numbers as text": (pd.Series(["1", "2.5"]), r"x holds str.*convert it first \(pandas.to_numeric\)"),
    "decimal commas": (pd.Series(["1,5", "2,5"]), "x holds str.*reads as numbers, such as '1,5'.*decimal=','"),
    "numbers and a mark": (np.array(["130", "165", "?"]), r"x: got an array of <U3.*na_values='\?'"),
    "dates as text": (pd.Series(["2026-01-31"]), r"x holds str.*reads as dates.*\(pandas.to_datetime\)"),
    "mixture": (pd.Series([1.0, "a"], dtype=object), r"x holds object \(float, str\), wanted numbers"),
    "lists in a column": (pd.Series([[1], [2, 3]]), r"x holds object \(list\), wanted numbers"),
    "uint64 beyond int64": (np.array([2**63], np.uint64), "x: got uint64 up to 9223372036854775808"),
    "int beyond int64": ([10**30, 1], "x: 10+ is too large for int64"),
    "a MultiIndex": (pd.MultiIndex.from_arrays([[1, 2], [3, 4]]), "x: got a MultiIndex, wanted one column"),
    "generator": ((v for v in [1.0]), "x: got a generator, which can be read only once"),
    "two columns of a name": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "x: two columns are called 'a'"),
    "text in a table": (pd.DataFrame({"a": [1], "b": ["u"]}), "x: column 'b' holds str.*wanted numbers"),
}


@pytest.mark.parametrize(("value", "message"), BAD.values(), ids=BAD)
def test_what_is_no_number_is_refused_by_name(value, message):
    with pytest.raises(ValueError, match=message):
        as_numbers("x", value)


Point = collections.namedtuple("Point", "a b")


@pytest.mark.parametrize(
    "value",
    [
        *(None, 2.5, True, "abc", range(3), {1, 2}, {"a": 1}, [], ["a", "b"], [1, None], [[1], [2, 3]]),
        *(torch.ones(2), [torch.ones(2)], torch.Size([2, 3]), Point(1, 2), torch.nn.Linear(1, 1)),
    ],
    ids=str,
)
def test_other_objects_come_as_they_are(value):
    assert as_numbers("x", value) is value


def test_a_setting_keeps_its_lists_and_numbers_lose_their_library():
    assert as_numbers("sizes", [8, 8], setting=True) == [8, 8]
    assert type(as_numbers("x", np.float64(2.5))) is float and type(as_numbers("x", np.bool_(True))) is bool


def test_a_table_is_a_matrix_of_the_widest_kind():
    flags = pd.DataFrame({"a": [True, False], "b": [False, False]})
    assert as_numbers("x", flags).dtype == bool
    assert as_numbers("x", flags.assign(c=[5, 6])).tolist() == [[1, 0, 5], [0, 0, 6]]
    assert as_numbers("x", flags.assign(c=[0.5, 6])).tolist() == [[1, 0, 0.5], [0, 0, 6]]


class Array:
    """An array of another library."""

    def __array__(self, dtype=None, copy=None):
        return np.array([1.5, 2.0])


def test_arrays_of_other_libraries_are_taken():
    assert as_numbers("x", Array()).tolist() == [1.5, 2.0]
