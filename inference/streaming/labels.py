"""The labels of columns of text in all rows: one pass over the data, before the first window, so that codes are those
that the whole data would have got.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..inputs.labels import Coded, coded

MOST = 2**20  # labels of a column


def has_labels(value: Any) -> bool:
    """Whether a chunk of an argument holds text or categories."""
    return any(True for _ in _columns(value))


def labels_of(names: Sequence[str], chunks: Iterable[tuple[Any, ...]]) -> Coded:
    """The codes of all labels in these chunks, and which labels they became; its values stand for nothing.

    Raises ValueError as `coded` does, and for a column with more than MOST labels.
    """
    found: dict[tuple[int, int], dict[Any, None]] = {}
    last: tuple[Any, ...] = ()
    for values in chunks:
        last = values
        for i, value in enumerate(values):
            for k, column in _columns(value):
                categories = isinstance(column.dtype, pd.CategoricalDtype)
                distinct = column.cat.categories if categories else column.unique()
                known = found.setdefault((i, k), {})
                known.update(dict.fromkeys(distinct.tolist()))
                if len(known) > MOST:
                    raise ValueError(
                        f"{names[i]}: got more than {MOST:,} labels; leave out the column, or pass codes of your own, "
                        f"codes, names = pandas.factorize(values)"
                    )
    stand_ins = [
        _with(value, {k: list(labels) for (place, k), labels in found.items() if place == i})
        for i, value in enumerate(last)
    ]
    return coded(names, tuple(stand_ins))


def _columns(value: Any) -> Iterator[tuple[int, pd.Series]]:
    """(number, column) of each column of labels, or of values that are no numbers."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "USTO" and value.ndim:
        text = np.char.decode(value, "utf-8", "replace") if value.dtype.kind == "S" else value
        yield 0, pd.Series(text.ravel())
    columns = [value] if isinstance(value, pd.Series) else []
    columns = [value.iloc[:, k] for k in range(value.shape[1])] if isinstance(value, pd.DataFrame) else columns
    for k, column in enumerate(columns):
        kind = column.dtype
        if isinstance(kind, pd.CategoricalDtype | pd.StringDtype) or pd.api.types.is_object_dtype(kind):
            yield k, column


def _with(value: Any, labels: dict[int, list[Any]]) -> Any:
    """A value like this one, whose columns of labels hold each of them."""
    if not labels:
        return value[:1]
    rows = max(map(len, labels.values()))
    if isinstance(value, pd.DataFrame):
        columns = [
            _filled(value.iloc[:, k], labels[k], rows) if k in labels else pd.Series([value.iloc[0, k]] * rows)
            for k in range(value.shape[1])
        ]
        return pd.concat(columns, axis=1).set_axis(value.columns, axis=1)
    if isinstance(value, pd.Series):
        return _filled(value, labels[0], rows).rename(value.name)
    return np.array(labels[0], dtype=object)


def _filled(column: pd.Series, labels: list[Any], rows: int) -> pd.Series:
    values = labels + labels[:1] * (rows - len(labels))
    if isinstance(column.dtype, pd.CategoricalDtype):
        return pd.Series(pd.Categorical(values, categories=labels, ordered=column.dtype.ordered))
    return pd.Series(values, dtype=object)
