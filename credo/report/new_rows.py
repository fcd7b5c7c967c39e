"""New rows from a CSV file, and what a fit predicts for them.

Only what is predicted may be missing in the file: a column that moves the observations of the model and nothing else.
A pair whose `data(table)` prepares tables may standardise them; new rows are prepared by the rows of the fit, in whose
units `prepared` proves them to be, and predictions are turned back to the units of the column they were made of.
"""

import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import credo
from credo.inference.inputs.call import argument_names, positional_parameters
from credo.inference.inputs.labels import reads_as
from credo.inference.inputs.tables import by_column
from credo.pairs import Pair
from credo.report.analysis import read_table, takes_table
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
    table = read_table(path)
    if training is None:
        return NewRows((table,))
    known = read_table(training)
    if pair.data is None or not takes_table(pair):
        return _by_name(pair, known, table, path)
    return _by_data(pair, known, table, path)


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
            if only or not moved <= seen.arguments:
                made = ", ".join(names[i] for i in sorted(moved)) if moved else "its arguments"
                raise ValueError(f"{path}: {problem}; data(table) of {pair.name} makes {made} of it")
            new[name] = _filled(known[name], len(table))
    new, n, m = new[list(known.columns)], len(known), len(table)
    try:
        both = tuple(pair.data(table=pd.concat([known, new], ignore_index=True)))
        three = tuple(pair.data(table=pd.concat([known, known, new], ignore_index=True)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    raw = [(known[c].to_numpy(float), new[c].to_numpy(float)) for c in known.select_dtypes("number") if _number(new[c])]
    found: list[Any] = []
    for i, (one, two, thrice) in enumerate(zip(data, both, three, strict=True)):
        here, there = array(one), array(two)
        try:
            if one is None or (isinstance(one, int) and not isinstance(one, bool) and (one, two) == (n, n + m)):
                found.append(None if one is None else m)  # the number of rows
            elif here is None or there is None or not here.ndim or here.shape == there.shape:
                found.append(...)
            elif (len(here), len(there)) != (n, n + m):
                raise Refused(
                    f"makes {names[i]} of shape {here.shape} of {n} rows, whose rows are not its first dimension"
                )
            elif i in seen.arguments and not only:  # drawn anew whatever it holds
                found.append(two[n:] if positional_parameters(pair.model)[i].default is not None else None)
            else:
                found.append(prepared(one, two, thrice, raw))
        except Refused as error:
            raise ValueError(
                f"{path}: data(table) of {pair.name} {error}, so new rows cannot be prepared like those of the fit "
                f"({names[i]}); prepare them in Python, and call fit.intervals"
            ) from None
    if not any(isinstance(part, int) or (part is not None and part is not ...) for part in found):
        raise ValueError(f"--predict: data(table) of {pair.name} returns no array with a row for each row of the table")
    while len(found) - 1 in seen.arguments and not only:
        found.pop()
    return NewRows(tuple(found), *_units(pair, known, data, seen))


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
