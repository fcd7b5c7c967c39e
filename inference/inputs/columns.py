"""One argument's data as an array of numbers: columns, NumPy arrays and lists, whatever type they hold.

Booleans stay booleans, integers become int64, and other real numbers float64; complex numbers stay complex. Dates,
numbers and dates as text, masked values and mixtures are refused: which number they stand for is the user's to say.
Labels have become codes before (`labels.py`).
"""

from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import torch

from .labels import reads_as
from .tables import of_fields

LARGEST = 2**63 - 1  # of int64, the only type of integers that all of torch's functions take


def as_numbers(name: str, value: Any, setting: bool = False) -> Any:
    """The data of one argument as a NumPy array; tensors and objects that hold no array (networks, say) as they came.

    setting: whether the argument is a setting of the model, which keeps its lists and tuples.
    Raises ValueError, which names the argument, for an array that does not hold numbers.
    """
    if isinstance(value, np.generic):  # first, for np.float64 is a float, too
        return value.item()
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, pd.MultiIndex):
        raise ValueError(f"{name}: got a MultiIndex, wanted one column; pass one level, index.get_level_values(0)")
    if isinstance(value, (pd.Index, pd.api.extensions.ExtensionArray)):
        value = pd.Series(value)
    if isinstance(value, pd.DataFrame):
        return _table(name, value)
    if isinstance(value, pd.Series):
        return _column(f"{name}: column {value.name!r}" if value.name is not None else name, value)
    if isinstance(value, deque):
        value = list(value)
    if isinstance(value, (list, tuple)):
        return value if setting else _sequence(name, value)
    if isinstance(value, Iterator):
        raise ValueError(
            f"{name}: got a {type(value).__name__}, which can be read only once; pass a list or an array of its values"
        )
    if type(value).__module__.startswith("scipy.sparse"):
        value = value.toarray()
    if getattr(type(value), "__array__", None) is not None:  # NumPy's own arrays, and those of other libraries
        return _array(name, value if isinstance(value, np.ndarray) else np.asarray(value))
    return value


def _table(name: str, table: pd.DataFrame) -> np.ndarray:
    """A table as a matrix: of booleans or integers where all of its columns are, else of floating point."""
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise ValueError(f"{name}: two columns are called {twice[0]!r}; rename one of them")
    columns = [_column(f"{name}: column {label!r}", table[label]) for label in table.columns]
    return np.stack(columns, -1) if columns else np.empty(table.shape)


def _column(name: str, column: pd.Series) -> np.ndarray:
    """A column as an array; a missing value is NaN. name: of the argument and the column, for messages."""
    kind = column.dtype
    if isinstance(kind, pd.SparseDtype):
        column, kind = column.sparse.to_dense(), kind.subtype
    if pd.api.types.is_object_dtype(kind):
        return _objects(name, column)
    if pd.api.types.is_bool_dtype(kind) and not isinstance(kind, pd.CategoricalDtype):
        if missing := int(column.isna().sum()):
            raise ValueError(f"{name}: {missing} of {len(column)} values are missing, wanted True or False in each row")
        return _array(name, column.to_numpy(dtype=bool))
    if pd.api.types.is_numeric_dtype(kind):
        if pd.api.types.is_integer_dtype(kind) and not column.isna().any():
            return _array(name, column.to_numpy(dtype=np.uint64 if "u" in str(kind).lower() else np.int64))
        if pd.api.types.is_complex_dtype(kind):
            return _array(name, column.to_numpy())
        return _array(name, column.to_numpy(dtype=np.float64, na_value=np.nan))
    raise ValueError(f"{name} holds {kind}, wanted numbers; {_remedy(column)}")


def _objects(name: str, column: pd.Series) -> np.ndarray:
    """A column of Python objects, if they are all numbers or all booleans."""
    kinds = {type(v) for v in column[column.notna()]}
    if kinds and kinds <= {bool, np.bool_}:
        return _column(name, column.astype("boolean"))
    if kinds and all(issubclass(k, (int, float, Decimal, np.number)) and k is not bool for k in kinds):
        whole = all(issubclass(k, (int, np.integer)) for k in kinds)
        if whole and all(abs(v) <= LARGEST for v in column.dropna()):
            return _column(name, column.astype("Int64"))
        if not whole:
            return _column(name, column.astype("float64"))
        raise ValueError(f"{name}: {max(column.dropna())} is too large for int64; pass floating point")
    shown = ", ".join(sorted(k.__name__ for k in kinds)[:3]) or "no values"
    raise ValueError(f"{name} holds {column.dtype} ({shown}), wanted numbers; {_remedy(column)}")


def _remedy(column: pd.Series) -> str:
    """How to make numbers of a column that holds none."""
    kind = column.dtype
    if pd.api.types.is_datetime64_any_dtype(kind) or isinstance(kind, pd.PeriodDtype):
        return "pass the time since its first row, e.g. (t - t.iloc[0]) / pandas.Timedelta(days=1)"
    if pd.api.types.is_timedelta64_dtype(kind):
        return "divide it by a unit, e.g. t / pandas.Timedelta(days=1)"
    filled = column.dropna()
    read = reads_as(filled) if all(isinstance(v, (str, bytes)) for v in filled) else None
    if read is None:
        return "convert or leave out those that are none"
    how = "(pandas.to_numeric), or read it with decimal=',' or na_values='?'" if read == "numbers" else ""
    return (
        f"its text reads as {read}, such as {filled.iloc[0]!r}: convert it first "
        f"{how or '(pandas.to_datetime)'}; or pass pandas.Categorical(values) if these are labels"
    )


def _array(name: str, array: np.ndarray) -> np.ndarray:
    if isinstance(array, np.ma.MaskedArray):
        if masked := int(np.ma.count_masked(array)):
            raise ValueError(
                f"{name}: {masked} of {array.size} values are masked; pass {name}.compressed() without them, or "
                f"{name}.filled(0) and the mask as two arguments of the model"
            )
        array = array.data
    kind = array.dtype.kind
    if kind in "iu":
        if array.size and int(array.max()) > LARGEST:
            raise ValueError(
                f"{name}: got {array.dtype} up to {int(array.max())}, wanted integers that int64 holds (to 2**63 - 1)"
            )
        return array.astype(np.int64)
    if kind in "bfc":
        largest = {"b": 1, "f": 8, "c": 16}[kind]  # bytes of the widest type that torch has
        wide = array.dtype.itemsize > largest
        return np.array(array, dtype=f"{kind}{largest}" if wide else array.dtype.newbyteorder("="))
    if array.dtype.names is not None:
        return _table(name, of_fields(array))
    if kind in "OMm" and array.ndim == 1:
        return _column(name, pd.Series(array))
    if kind == "O" and array.ndim > 1:
        return _objects(name, pd.Series(array.ravel())).reshape(array.shape)
    raise ValueError(f"{name}: got an array of {array.dtype}, wanted numbers; {_remedy(pd.Series(array.ravel()))}")


def _sequence(name: str, value: Any) -> Any:
    """A list or tuple of numbers as an array, also of lists of equal length; any other list as it came."""
    if not value or hasattr(value, "_fields") or isinstance(value, torch.Size) or not _all_numbers(value):
        return value
    try:
        array = np.asarray(value)
    except ValueError:  # lists of several lengths: the model's own business
        return value
    return _array(name, array)


def _all_numbers(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return all(_all_numbers(v) for v in value)
    return isinstance(value, (bool, int, float, np.bool_, np.number)) and not isinstance(value, np.complexfloating)
