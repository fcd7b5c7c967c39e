"""New rows from a CSV file, and what a fit predicts for them.

Only what is predicted may be missing in the file: a column that moves the observations of the model and nothing else.
A pair whose `data(table)` prepares tables may standardise them; new rows are prepared by the rows of the fit, in whose
units `prepared` proves them to be, and predictions are turned back to the units of the column they were made of.
"""

import warnings
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import credo
from credo.inference.inputs.call import argument_names, positional_parameters
from credo.inference.inputs.files import csv_table, is_parquet, table_of_file
from credo.inference.inputs.labels import reads_as
from credo.inference.inputs.tables import by_column
from credo.pairs import Pair
from credo.report.analysis import takes_table
from credo.report.observed import Observed, observed_arguments
from credo.report.prepared import Refused, array, line_of, prepared, same

COLUMNS = ["mean", "sd", "low", "high"]


class NewRows(NamedTuple):
    """The arguments of the model at new rows, and the units of its observations: y = scale y' + shift."""

    arguments: tuple[Any, ...]  # ... for what is not rows, a network: that of the fit
    scale: float = 1.0
    shift: float = 0.0
    doubt: str = ""  # why the units of the file are not known


def new_rows(pair: Pair, training: Path | None, path: Path) -> NewRows:
    """The arguments of the model at the rows of a file, without what is to be predicted.

    Raises ValueError for a file that lacks a column of the fit, or has gaps or labels in it that the fit has not, and
    for a pair that prepares rows so that what becomes of one depends on the others in more than a shift and a scale of
    each column.
    """
    if training is None and pair.data is not None:
        raise ValueError("--predict: the built-in data have no columns to read new rows by; give --data file.csv too")
    table = _table(path)
    if training is None:
        return NewRows((table,))
    known = _table(training)
    if pair.data is None or not takes_table(pair):
        return _by_name(pair, known, table, path)
    return _by_data(pair, known, table, path)


def _table(path: Path) -> pd.DataFrame:
    return table_of_file(path) if is_parquet(path) else csv_table(path)


def _by_name(pair: Pair, known: pd.DataFrame, table: pd.DataFrame, path: Path) -> NewRows:
    """The rows for a model whose arguments are columns of the table."""
    values = by_column(pair.model, known)
    seen = observed_arguments(pair.model, values).arguments
    columns = [
        [value.name] if isinstance(value, pd.Series) else list(getattr(value, "columns", ())) for value in values
    ]
    parts = range(len(values))
    needed = [name for i in parts if i not in seen or len(seen) == len(values) for name in columns[i]]
    for name in needed:
        if problem := _problem(name, known, table, labels=False):
            raise ValueError(f"{path}: {problem}")
    before = [i for i in parts if i in seen and i < max(set(parts) - seen, default=-1)]
    required = [i for i, p in enumerate(positional_parameters(pair.model)) if p.default is p.empty]
    made_up = [name for i in before if i in required for name in columns[i]]  # drawn anew whatever it holds
    given = table.drop(columns=[name for name in made_up if name in table])
    for name in made_up:
        given[name] = _filled(known[name], len(table))
    return NewRows((given[[name for name in given.columns if name in (*needed, *made_up)]],))


def _by_data(pair: Pair, known: pd.DataFrame, table: pd.DataFrame, path: Path) -> NewRows:
    """The rows for a pair whose `data(table)` makes the arguments of a table."""
    assert pair.data is not None
    data = tuple(pair.data(table=known))
    seen = observed_arguments(pair.model, data)
    names = argument_names(pair.model, len(data))
    only = sum(part is not None and part.ndim > 0 for part in map(array, data)) == len(seen.arguments)
    new = table[[name for name in known.columns if name in table.columns]].copy()
    for name in known.columns:
        if problem := _problem(name, known, table):
            moved = _moved(pair, known, data, name)
            if moved and (only or not moved <= seen.arguments):
                made = ", ".join(names[i] for i in sorted(moved))
                raise ValueError(f"{path}: {problem}; data(table) of {pair.name} makes {made} of it")
            new[name] = _filled(known[name], len(table))
    new = new[list(known.columns)]
    try:
        both = tuple(pair.data(table=pd.concat([known, new], ignore_index=True)))
        three = tuple(pair.data(table=pd.concat([known, known, new], ignore_index=True)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    raw, n, m = _raw(known, new), len(known), len(new)
    anew = frozenset() if only else seen.arguments
    found: list[Any] = []
    for i, values in enumerate(zip(data, both, three, strict=True)):
        try:
            if i in anew and positional_parameters(pair.model)[i].default is None:
                found.append(None)
            else:
                found.append(_argument(*values, n, m, raw, i in anew))
        except Refused as error:
            raise ValueError(
                f"{path}: data(table) of {pair.name} {error}, so new rows cannot be prepared like those of the fit "
                f"({names[i]}); prepare them in Python, and call fit.intervals"
            ) from None
    if all(part is None or part is ... for part in found):
        raise ValueError(f"--predict: data(table) of {pair.name} returns no array with a row for each row of the table")
    while len(found) - 1 in anew:
        found.pop()
    return NewRows(tuple(found), *_units(pair, known, data, seen))


def _argument(one: Any, two: Any, three: Any, n: int, m: int, raw: list[Any], anew: bool) -> Any:
    """An argument at m new rows, as `prepared`; ... for that of the fit. anew: it is drawn, whatever it holds."""
    if isinstance(one, int) and not isinstance(one, bool) and (one, two) == (n, n + m):
        return m  # the number of rows
    here, there = array(one), array(two)
    if here is None or there is None or not here.ndim or here.shape == there.shape:
        return None if one is None else ...
    if (len(here), len(there)) != (n, n + m):
        raise Refused(f"makes an array of shape {here.shape} of {n} rows, whose first dimension is not the rows")
    if anew:
        return two[n:].reset_index(drop=True) if isinstance(two, (pd.Series, pd.DataFrame)) else two[n:]
    return prepared(one, two, three, raw)


def _raw(known: pd.DataFrame, new: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """The columns of numbers and dates in both tables, as numbers."""
    found = []
    for name in known.columns:
        columns = [known[name], new[name]]
        if all(_number(column) for column in columns):
            found.append((columns[0].to_numpy(float), columns[1].to_numpy(float)))
        elif not any(_number(column) for column in columns) and reads_as(known[name].astype(str)) == "dates":
            with suppress(ValueError, TypeError):  # of time zones
                days = [pd.to_datetime(column) - pd.Timestamp(0) for column in columns]
                found.append((days[0] / pd.Timedelta(days=1), days[1] / pd.Timedelta(days=1)))
    return [(np.asarray(one, float), np.asarray(two, float)) for one, two in found]


def _problem(name: Any, known: pd.DataFrame, table: pd.DataFrame, labels: bool = True) -> str:
    """What is wrong with a column of the new file, in words; empty if nothing is. labels: whether new ones are."""
    if name not in table.columns:
        plain = {str(c).strip().lower(): str(c) for c in table.columns if c not in known.columns}
        near = get_close_matches(str(name).strip().lower(), plain, n=1, cutoff=0.6)
        hint = f"; did you mean {plain[near[0]]!r}? Rename it" if near else ""
        return f"has no column {name!r}, which the fit was given: got columns {list(table.columns)[:10]}{hint}"
    if (gaps := int(table[name].isna().sum())) and not known[name].isna().any():
        return f"column {name!r} has {gaps} of {len(table)} values missing; drop or fill those rows first"
    if _number(known[name]) and not _number(table[name]):
        return f"column {name!r} holds {table[name].dtype}, wanted numbers, as in the data of the fit"
    text = known[name].dropna()
    if labels and not _number(known[name]) and reads_as(text.astype(str)) is None:
        if strange := sorted(set(table[name].dropna().astype(str)) - set(text.astype(str))):
            return f"column {name!r} has the label {strange[0]!r}, which no row of the fit has"
    return ""


def _filled(column: pd.Series, m: int) -> np.ndarray:
    """m values for a column that is to be predicted, from the rows of the fit."""
    return column.to_numpy()[np.arange(m) % len(column)]


def _moved(pair: Pair, known: pd.DataFrame, data: tuple[Any, ...], name: Any) -> set[int]:
    """The arguments that change where the entries of a column change places; all for a constant column."""
    assert pair.data is not None
    everything = set(range(len(data)))
    if known[name].nunique(dropna=False) < 2:
        return everything
    try:
        other = tuple(pair.data(table=known.assign(**{str(name): np.roll(known[name].to_numpy(), 1)})))
    except Exception:  # of the user's program
        return everything
    return {i for i, (one, two) in enumerate(zip(data, other, strict=True)) if not same(one, two)}


def _number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))


def _units(pair: Pair, known: pd.DataFrame, data: tuple[Any, ...], seen: Observed) -> tuple[float, float, str]:
    """(scale, shift, "") from the observations to the column that they were made of; (1, 0, why) if none is found."""
    for i in sorted(seen.arguments):
        y = array(data[i])
        assert y is not None
        parts: Iterable[np.ndarray] = y.reshape(len(y), -1).T if y.dtype.kind in "biuf" and len(y) == len(known) else []
        lines = [_line_to(pair, known, data, i, part.astype(float)) for part in parts]
        if lines and all(line == (1.0, 0.0) for line in lines):
            continue
        if seen.alone and y.ndim == 1 and lines and lines[0] is not None:
            return *lines[0], ""
        name = argument_names(pair.model, len(data))[i]
        return 1.0, 0.0, f"predictions are in the units of {name} in data(table) of {pair.name}, not of the file"
    return 1.0, 0.0, "" if seen.arguments else "no argument of the model is known to be observed: units are the model's"


def _line_to(
    pair: Pair, known: pd.DataFrame, data: tuple[Any, ...], i: int, y: np.ndarray
) -> tuple[float, float] | None:
    """(scale, shift) from observations to the column of numbers that moves them; None if there is no such column."""
    for name, column in known.select_dtypes("number").items():
        line = line_of(column.to_numpy(float), y)
        if line is not None and i in _moved(pair, known, data, name):
            return (1.0, 0.0) if np.allclose(column.to_numpy(float), y, rtol=1e-6) else line
    return None


def predictions(fit: credo.Fit, rows: NewRows, seed: int) -> pd.DataFrame:
    """A row for each new row: mean, sd, and the ends of the central 90 % interval of what is predicted.

    In the units of the column that the observations were made of, with a warning where these are not known; for classes
    the probability of each.
    """
    new = (fit.data[i] if value is ... else value for i, value in enumerate(rows.arguments))
    table = fit.intervals(*new, seed=seed)
    if list(table.columns) != COLUMNS:
        return table
    if rows.doubt:
        warnings.warn(rows.doubt, stacklevel=2)
    if (rows.scale, rows.shift) == (1.0, 0.0):
        return table
    table[["mean", "low", "high"]] = rows.scale * table[["mean", "low", "high"]] + rows.shift
    table["sd"] *= abs(rows.scale)
    if rows.scale < 0:
        table[["low", "high"]] = table[["high", "low"]].to_numpy()
    return table
