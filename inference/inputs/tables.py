"""Tables as data: the columns of a table for the arguments of a model, and rows of several tables that belong together.

Rows are paired by their position, so tables whose index says otherwise are put in order by it, or refused.
"""

import difflib
import inspect
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.parsers import TextFileReader

from .arrow import from_arrow
from .call import parameters
from .files import is_csv, is_parquet, table_of_file

NEAR = 0.8  # the similarity of two names from which one is taken for a slip of the other


def as_table(value: Any) -> Any:
    """A table of another library, a file, or a structured array, as a pandas DataFrame; anything else as it came.

    A column of another library is a Series. Raises ValueError for a table that has not been computed yet, and for a
    file that cannot be read.
    """
    if is_csv(value) or is_parquet(value):
        return table_of_file(value)
    if isinstance(value, np.ndarray) and value.dtype.names is not None:
        return of_fields(value)
    if isinstance(value, (pd.DataFrame, pd.Series, pd.Index)):
        return value
    if hasattr(value, "dims"):  # of xarray: arrays are arrays, and variables over one dimension are columns
        return value.to_dataframe() if hasattr(value, "data_vars") and len(value.dims) == 1 else value
    if hasattr(type(value), "__arrow_c_stream__"):
        return from_arrow(value)
    if isinstance(value, TextFileReader):
        raise ValueError(
            "data: got pandas' reader of a file by chunks, which can be read only once; pass the path of the file, "
            "pathlib.Path('rows.csv'), which is read by chunks where it is larger than memory"
        )
    if type(value).__name__ == "LazyFrame":
        raise ValueError("data: got a LazyFrame, whose rows are not computed yet; pass frame.collect()")
    if hasattr(type(value), "__dataframe__"):
        return pd.DataFrame({label: np.asarray(value[label]) for label in value.columns})
    return value


def of_fields(array: np.ndarray) -> pd.DataFrame:
    """The table of a structured array, a column for each field. Raises ValueError for a field of more than a number."""
    for field in array.dtype.names or ():
        if array[field].ndim != 1:
            raise ValueError(
                f"data: field {field!r} of a structured array has shape {array[field].shape[1:]} in each row, wanted a "
                f"number; pass array[{field!r}] as an argument of its own"
            )
    return pd.DataFrame({field: array[field] for field in array.dtype.names or ()})


def by_column(model: Callable[..., Any], table: pd.DataFrame, whole: bool = True) -> tuple[Any, ...]:
    """The model's data arguments, each from the column of its name.

    Data arguments are those without a default or with the default None. One required argument without a column of its
    name takes all columns that no other argument takes, as a matrix of shape (rows, columns). If the table need not be
    whole, the last arguments, what a prediction predicts, may lack their columns.
    Raises ValueError for an argument that no column is left for, or whose name a column nearly has.
    """
    wanted = [
        p
        for p in parameters(model)
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default in (p.empty, None)
    ]
    names = [p.name for p in wanted]
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise ValueError(f"the table has two columns called {twice[0]!r}; rename one of them")
    rest = [c for c in table.columns if c not in names and not _is_index(table[c])]
    absent = [p for p in wanted if p.name not in table.columns]
    for p in absent:
        if near := _near(p.name, rest):
            raise ValueError(
                f"the table has no column {p.name!r}, an argument of the model; did you mean {near!r}? Rename the "
                f"column, or pass the arguments one by one, e.g. table[{table.columns[0]!r}]"
            )
    alone = len(wanted) == 1
    if not whole:
        last = max((i for i, p in enumerate(wanted) if p.name in table.columns), default=0)
        absent, wanted = [p for p in absent if p in wanted[: last + 1]], wanted[: last + 1]
    missing = [p.name for p in absent if p.default is p.empty]
    if len(missing) > 1 or (missing and (alone or not rest)):
        raise ValueError(
            f"the table has no column {missing[0]!r}, an argument of the model: got columns {list(table.columns)}, "
            f"wanted {names}{_in_other_case(missing, rest)}. Rename a column, or pass the arguments one by one, e.g. "
            f"table[{table.columns[0]!r}]{', or all columns as one matrix, table.to_numpy()' if alone else ''}."
            if len(table.columns)
            else f"the table has no columns; wanted {names}"
        )
    values = [_values(table, rest, p) for p in wanted]
    while values and values[-1] is None:
        values.pop()
    return tuple(values)


def _values(table: pd.DataFrame, rest: list[Any], parameter: inspect.Parameter) -> pd.Series | pd.DataFrame | None:
    if parameter.name in table.columns:
        return table[parameter.name]
    return table[rest] if parameter.default is parameter.empty else None


def _is_index(column: pd.Series) -> bool:
    """Whether a column is the row numbers that pandas (from 0) or R (from 1) wrote and `read_csv` gives this name."""
    if not str(column.name).startswith("Unnamed: "):
        return False
    return any(list(column) == list(range(first, first + len(column))) for first in (0, 1))


def _near(name: str, columns: list[Any]) -> str | None:
    """The column whose name is nearly this one: in other capitals, with blanks, or with a letter too many or few.

    No slips: x and X are a vector and a matrix, dose1 and dose2 columns of a matrix called dose, and few people miss
    the first letter of a name (age, wage).
    """
    if blank := [c for c in columns if isinstance(c, str) and c.strip() == name]:
        return str(blank[0])
    if len(name) == 1:
        return None
    plain = {_plain(c): c for c in columns if isinstance(c, str)}
    if _plain(name) in plain:
        return str(plain[_plain(name)])
    others = [c for c in plain if len(c) > 2 and c[0] == name[0].lower() and _stem(c) != _stem(_plain(name))]
    others += [c for c in plain if c == _plain(name) + "s" or c + "s" == _plain(name)]
    near = difflib.get_close_matches(_plain(name), others, n=2, cutoff=NEAR)
    return str(plain[near[0]]) if len(near) == 1 else None


def _in_other_case(missing: list[str], columns: list[Any]) -> str:
    """For the message, the columns that have each of these names in other capitals; empty if one has none."""
    plain = {_plain(c): c for c in columns if isinstance(c, str)}
    found = [plain[_plain(name)] for name in missing if _plain(name) in plain]
    return f", which may be {', '.join(map(repr, found))}" if len(found) == len(missing) else ""


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _stem(name: str) -> str:
    return "".join(c for c in name if not c.isdigit()).removesuffix("s")


def in_order(names: list[str], data: tuple[Any, ...], columns: tuple[list[str] | None, ...]) -> tuple[Any, ...]:
    """The data with the columns of its tables in this order. Raises ValueError for other columns."""
    for name, value, wanted in zip(names, data, columns, strict=False):
        if isinstance(value, pd.DataFrame) and wanted is not None and set(value.columns) != set(wanted):
            missing = [c for c in wanted if c not in value.columns]
            extra = [c for c in value.columns if c not in wanted]
            raise ValueError(f"{name}: wanted the columns of the fit, {wanted}; missing {missing}, not known {extra}")
    ordered = zip(data, (*columns, *[None] * len(data)), strict=False)
    return tuple(v[wanted] if isinstance(v, pd.DataFrame) and wanted is not None else v for v, wanted in ordered)


def paired_by_index(names: list[str], data: tuple[Any, ...], apart: Collection[str] = ()) -> tuple[Any, ...]:
    """The data with the rows of its Series and DataFrames in the order of the first one's index.

    Those of equal length are taken to have the same rows, except those with a name in `apart`. Raises ValueError, which
    names both, where their indexes do not say which rows belong together.
    """
    first: dict[int, tuple[str, pd.Index]] = {}
    paired = list(data)
    for i, (name, value) in enumerate(zip(names, data, strict=True)):
        if name in apart or not isinstance(value, (pd.DataFrame, pd.Series)):
            continue
        other, index = first.setdefault(len(value), (name, value.index))
        if value.index.equals(index):
            continue
        counted = [isinstance(k, pd.RangeIndex) and (k.start, k.step) == (0, 1) for k in (index, value.index)]
        if any(counted) and not all(pd.api.types.is_integer_dtype(k.dtype) for k in (index, value.index)):
            continue  # one has labels, the other was never given any: by position is all that can be meant
        known = index.is_unique and value.index.is_unique and set(index) == set(value.index)
        if not known or any(counted):
            raise ValueError(
                f"{other} and {name} have the same number of rows but different indexes, so it is not clear which "
                f"rows belong together: {_labels(index)} and {_labels(value.index)}. Pass {name}.loc[{other}.index] "
                f"to pair them by index, or both with .to_numpy() to pair them by position"
            )
        paired[i] = value.loc[index]
    return tuple(paired)


def _labels(index: pd.Index) -> str:
    return f"{list(index[:3])}"[:-1] + (", ...]" if len(index) > 3 else "]")
