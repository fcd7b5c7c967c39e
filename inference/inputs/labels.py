"""Labels (text and categories) as whole numbers: the code of a label is its place in a list that the fit keeps.

Categories keep their order; the labels of text are sorted. Text that reads as numbers or as dates is left as it is.
"""

import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

Labels = Mapping[Any, list[Any]]  # {argument, or column of a matrix: its labels, in the order of their codes}

NUMBER = re.compile(r"[-+]?[\d.,' ]*\d[\d.,' ]*(e[-+]?\d+)?%?", re.IGNORECASE)  # 1.5, and also 1,5 or 1'000 or 12 %
DATE = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}.*|\d{1,2}[-./]\d{1,2}[-./]\d{2,4}.*")
NO_LABELS = ("", "nan", "<NA>", "NaT")  # missing values in files, or those that NumPy or str() has made text of
HAVE_ROWS = (torch.Tensor, np.ndarray, pd.Series, pd.DataFrame)
SHOWN = 5  # labels in a message, and messages
READ = 1000  # distinct values, at most


class Coded(NamedTuple):
    """The data of the arguments, with codes in the place of labels."""

    values: tuple[Any, ...]
    codes: Labels
    notices: tuple[str, ...]  # which labels became which codes, except categories that the user declared as such


class _Column(NamedTuple):
    """A column of labels."""

    key: Any  # under which the fit keeps its labels
    place: str  # how messages name it
    labels: list[Any]
    codes: np.ndarray
    declared: bool = False  # the user made them categories, and so knows their codes


def coded(names: Sequence[str], data: tuple[Any, ...], known: Labels | None = None) -> Coded:
    """The data of the arguments with these names, with int64 codes in the place of labels.

    known: the labels of the fit, for new data; None: this is the fit, and its labels are those that it holds.
    Raises ValueError, which names the column, for labels that are missing or that the fit does not know, and for two
    columns in which a label has two codes, since both may index the same things.
    """
    found: list[_Column] = []
    told: list[tuple[_Column, str]] = []
    values = []
    indices: list[_Column] = []
    for name, value in zip(names, data, strict=True):
        if isinstance(value, pd.DataFrame):
            taken = {*names, *(column.key for column in found)} if known is None else {*names}
            value, columns = _table(name, value, taken, known)
            mixed = len(columns) < value.shape[1]
        else:
            value, columns = _vector(name, value, known)
            mixed = False
        found += columns
        indices += [] if mixed else columns
        values.append(value)
        advice = f", numbers in the matrix {name}; pandas.get_dummies makes covariates of labels" if mixed else ""
        told += [(column, advice) for column in columns if mixed or not column.declared]
    if known is not None:
        return Coded(tuple(values), known, ())
    for one, other in combinations(indices, 2):
        _refuse_two_codes(one, other)
    notices = [f"{_became(column)}{advice}" for column, advice in told[:SHOWN]]
    if len(told) > SHOWN:
        more = ", ".join(str(column.key) for column, _ in told[SHOWN:])
        notices.append(f"labels became codes in {len(told) - SHOWN} more columns, see fit.codes: {more}")
    return Coded(tuple(values), {column.key: column.labels for column in found}, tuple(notices))


def lists_as_arrays(
    names: Sequence[str], data: tuple[Any, ...], settings: Collection[str], known: Labels | None = None
) -> tuple[Any, ...]:
    """The data with arrays in the place of lists that hold the labels of rows.

    They are lists for which the fit has labels; in a fit, lists of text with an entry for each row of another argument.
    Other lists of text are the model's own business: names of its sites, say. settings: arguments that keep lists.
    """
    rows = {len(v) for v in data if isinstance(v, HAVE_ROWS) and np.ndim(v)}
    rows |= {len(v) for v in data if isinstance(v, (list, tuple)) and v and all(type(e) in (int, float) for e in v)}

    def labelled(name: str, value: Any) -> bool:
        if not isinstance(value, (list, tuple, deque)) or name in settings or hasattr(value, "_fields") or not value:
            return False
        if known is not None:
            return name in known and all(isinstance(entry, (str, int, float, np.generic)) for entry in value)
        return len(value) in rows and all(isinstance(entry, str) for entry in value)

    pairs = zip(names, data, strict=True)
    return tuple(pd.Series(list(v)).to_numpy(object) if labelled(name, v) else v for name, v in pairs)


def reads_as(text: pd.Series) -> str | None:
    """What text is instead of labels, if at least half of its distinct values read so: "numbers" or "dates"."""
    distinct = [str(value).strip() for value in text.dropna().unique()[:READ]]
    for kind, pattern in (("dates", DATE), ("numbers", NUMBER)):
        if distinct and 2 * sum(pattern.fullmatch(value) is not None for value in distinct) >= len(distinct):
            return kind
    return None


def holds_labels(column: pd.Series) -> bool:
    """Whether a column holds text that is all labels: none is missing, and they read as no numbers or dates."""
    return _is_text(column) and not (column.isna() | column.isin(NO_LABELS)).any() and reads_as(column) is None


def listed(labels: Sequence[Any]) -> str:
    """Labels with their codes, for messages: "0 (a), 1 (b), 2 (c)"."""
    pairs = [f"{code} ({label})" for code, label in enumerate(labels)]
    return ", ".join(pairs if len(pairs) <= SHOWN else [*pairs[: SHOWN - 2], "...", pairs[-1]])


def _table(name: str, table: pd.DataFrame, taken: set[Any], known: Labels | None) -> tuple[pd.DataFrame, list[_Column]]:
    """(the table with codes in the place of labels, its columns of labels). taken: keys that are no column's."""
    coded_table, columns = table.copy(deep=False), []
    for i, label in enumerate(table.columns):
        own = f"{name}.{label}"
        key = own if label in taken or (known is not None and own in known) else label
        if (column := _column(key, f"column {key}", table.iloc[:, i], known)) is not None:
            coded_table.isetitem(i, column.codes)
            columns.append(column)
    return (coded_table if columns else table), columns


def _vector(name: str, value: Any, known: Labels | None) -> tuple[Any, list[_Column]]:
    """(a Series or an array with codes in the place of labels, its column of labels); other objects as they came."""
    if isinstance(value, (pd.Index, pd.api.extensions.ExtensionArray)) and not isinstance(value, pd.MultiIndex):
        value = pd.Series(value)
    if isinstance(value, pd.Series):
        column = _column(name, f"column {name}", value, known)
        return (value, []) if column is None else (pd.Series(column.codes, value.index, name=value.name), [column])
    if isinstance(value, (torch.Tensor, np.generic)) or getattr(type(value), "__array__", None) is None:
        return value, []
    array = np.asarray(value)
    labelled = array.dtype.kind in "USTO" or _numbered((known or {}).get(name))
    if array.ndim == 0 or not labelled or np.ma.is_masked(value):
        return value, []
    text = np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array
    column = _column(name, name, pd.Series(text.ravel()), known)
    return (value, []) if column is None else (column.codes.reshape(array.shape), [column])


def _column(key: Any, place: str, column: pd.Series, known: Labels | None) -> _Column | None:
    """A column of labels; None for a column of anything else."""
    labels = None if known is None else known.get(key)
    declared = isinstance(column.dtype, pd.CategoricalDtype)
    if not (declared or _numbered(labels) or _is_text(column)):
        return None
    if not declared and labels is None and reads_as(column) is not None:
        return None
    if known is not None and labels is None:
        raise ValueError(f"{place}: got labels such as {_first(column)!r}, wanted numbers, as in the fit")
    missing = int((column.isna() | column.astype(object).isin(() if declared else NO_LABELS)).sum())
    if missing:
        raise ValueError(
            f"{place}: {missing} of {len(column)} labels are missing; leave out these rows, or give them a label of "
            f"their own, 'missing' say (.fillna, .replace)"
        )
    if labels is None:
        categories = pd.Categorical(column)
        return _Column(key, place, categories.categories.tolist(), categories.codes.astype(np.int64), declared)
    codes = pd.Index(labels, dtype=object).get_indexer(column.astype(object))
    if (codes < 0).any():
        raise ValueError(
            f"{place}: the fit has not seen the label {column.astype(object).iloc[codes.argmin()]!r}; it knows "
            f"{listed(labels)}. Leave out its rows, or declare all labels when you fit: pandas.Categorical(values, "
            f"categories=[...]). Where the model takes the number of groups from its data, a tensor of codes may have "
            f"{len(labels)} for a new group, which is drawn from the model"
        )
    return _Column(key, place, labels, codes.astype(np.int64))


def _is_text(column: pd.Series) -> bool:
    """Whether a column holds text, and nothing else beside missing values."""
    if pd.api.types.is_object_dtype(column.dtype):
        return pd.api.types.infer_dtype(column, skipna=True) == "string"
    return isinstance(column.dtype, pd.StringDtype) or column.dtype.kind in "UT"


def _numbered(labels: list[Any] | None) -> bool:
    """Whether labels are numbers or intervals, such as years, so that new numbers are labels and no codes."""
    return labels is not None and not any(isinstance(label, str) for label in labels)


def _first(column: pd.Series) -> Any:
    filled = column.dropna()
    return filled.iloc[0] if len(filled) else None


def _became(column: _Column) -> str:
    n = len(column.labels)
    return f"{column.place}: {n} label{'s' * (n != 1)} became the code{'s' * (n != 1)} {listed(column.labels)}"


def _refuse_two_codes(one: _Column, other: _Column) -> None:
    """Raises ValueError if a label that two columns have in common has one code in one and another in the other."""
    places = {label: code for code, label in enumerate(other.labels)}
    for code, label in enumerate(one.labels):
        if places.get(label, code) != code:
            raise ValueError(
                f"{one.place} and {other.place} have labels in common, but not the same ones: {label!r} would be "
                f"{code} in {one.place} and {places[label]} in {other.place}. If both name the same things, declare "
                f"the labels of both, pandas.Categorical(values, categories=[...]); if not, pass codes of your own, "
                f"codes, names = pandas.factorize(values)"
            )
