"""The axes of the data that have labels: columns of tables, categories behind codes, and rows with an index."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch

from .labels import Labels

MOST = 100_000  # rows whose labels are kept

Data = tuple[Any, ...]


class Axis(NamedTuple):
    """An axis of the data whose K entries have labels."""

    kind: str  # "columns", "codes" or "rows"
    name: str  # of the dimension
    labels: tuple[Any, ...]  # K, all different
    where: tuple[tuple[int, int | None], ...]  # (argument, its column, or None for all of it)
    used: tuple[int, ...]  # the entries that the data has: all but the categories of no row

    @property
    def orders(self) -> list[torch.Tensor]:
        """Orders of the entries that the data has, from which all others can be composed: a swap, and all one on."""
        used = torch.tensor(self.used)
        swap, cycle = torch.arange(len(self.labels)), torch.arange(len(self.labels))
        swap[used[:2]] = used[:2].flip(0)
        cycle[used] = used.roll(-1)
        return [swap, cycle] if len(used) > 2 else [swap]

    def permuted(self, data: Data, order: torch.Tensor) -> Data:
        """The data with entry order[k] of the axis in place k."""
        values = list(data)
        for i, column in self.where:
            if self.kind == "codes":
                back = order.argsort()
                codes = values[i] if column is None else values[i][:, column]
                new = back.to(codes.device)[codes.long()].to(codes.dtype)
                values[i] = new if column is None else _with_column(values[i], column, new)
            else:
                values[i] = values[i].index_select(-1 if self.kind == "columns" else 0, order.to(values[i].device))
        return tuple(values)

    def owns(self, argument: int, dim: int, data: Data) -> bool:
        """Whether this dimension of an argument is the axis itself."""
        at = {"columns": data[argument].dim() - 1, "rows": 0}.get(self.kind)
        return at == dim and any(argument == i for i, _ in self.where)


def axes_of(
    names: Sequence[str], data: Data, columns: Sequence[Any], codes: Labels, row_labels: Sequence[list[Any] | None]
) -> list[Axis]:
    """The axes of these arguments that the user gave labels.

    names: of the arguments; columns, codes, row_labels: as in a fit (see `arguments.py`).
    """
    tables = dict(enumerate(columns))
    return [*_columns(names, data, tables), *_codes(names, data, tables, codes), *_rows(data, row_labels)]


def labels_of_rows(value: Any) -> list[Any] | None:
    """The labels of the rows of a Series or DataFrame; None where it has none of its own, or very many.

    Whole numbers and text stay as they are, levels of a MultiIndex are tuples, others (dates) become text.
    """
    if not isinstance(value, (pd.DataFrame, pd.Series)) or len(value) > MOST:
        return None
    rows = value.index
    if isinstance(rows, pd.RangeIndex) and (rows.start, rows.step) == (0, 1):
        return None
    kept = pd.api.types.is_integer_dtype(rows.dtype) or isinstance(rows, pd.MultiIndex)
    return [_label(label) for label in rows.tolist()] if kept else [str(label) for label in rows.astype(str)]


def _label(label: Any) -> Any:
    if isinstance(label, tuple):
        return tuple(_label(part) for part in label)
    return label if type(label) in (int, str) else str(label)


def _columns(names: Sequence[str], data: Data, columns: Mapping[int, Any]) -> Iterable[Axis]:
    together: dict[tuple[Any, ...], list[int]] = {}
    for i, value in enumerate(data):
        labels = columns.get(i)
        if labels and isinstance(value, torch.Tensor) and value.dim() == 2 and value.shape[1] == len(labels):
            together.setdefault(tuple(labels), []).append(i)
    for labels, places in together.items():
        if _different(labels):
            where = tuple((i, None) for i in places)
            yield Axis("columns", f"{names[places[0]]}_column", labels, where, tuple(range(len(labels))))


def _codes(
    names: Sequence[str], data: Data, columns: Mapping[int, Any], codes: Mapping[Any, Sequence[Any]]
) -> Iterable[Axis]:
    together: dict[tuple[Any, ...], list[tuple[Any, int, int | None]]] = {}
    for key, labels in codes.items():
        if (place := _place(key, names, columns)) is not None and isinstance(data[place[0]], torch.Tensor):
            together.setdefault(tuple(labels), []).append((key, *place))
    for labels, places in together.items():
        if not _different(labels):
            continue
        where = tuple((i, column) for _, i, column in places)
        seen = torch.cat([(data[i] if column is None else data[i][:, column]).flatten().long() for i, column in where])
        used = tuple(seen.unique().tolist())
        for k in dict.fromkeys(
            (len(labels), used[-1] + 1)
        ):  # a model may have an entry for each label, or up to the last
            yield Axis("codes", str(places[0][0]), labels[:k], where, used)


def _place(key: Any, names: Sequence[str], columns: Mapping[int, Any]) -> tuple[int, int | None] | None:
    """(argument, column) of the codes that a fit keeps under this key; see `inputs/labels.py`."""
    if key in names:
        return names.index(key), None
    for i, name in enumerate(names):
        for j, label in enumerate(columns.get(i) or ()):
            if key in (label, f"{name}.{label}"):
                return i, j
    return None


def _rows(data: Data, row_labels: Sequence[Any]) -> Iterable[Axis]:
    """An axis for each index: of all arguments with as many rows, if they have no other one."""
    for labels in dict.fromkeys(tuple(rows) for rows in row_labels if rows is not None):
        others = {tuple(rows) for rows in row_labels if rows is not None and len(rows) == len(labels)}
        places = [
            (i, None)
            for i, value in enumerate(data)
            if isinstance(value, torch.Tensor) and value.dim() and len(value) == len(labels)
        ]
        if len(others) == 1 and places and _different(labels):
            yield Axis("rows", "row", labels, tuple(places), tuple(range(len(labels))))


def _different(labels: Sequence[Any]) -> bool:
    """Whether labels are at least one, and differ as text, too."""
    return 0 < len(labels) == len({str(label) for label in labels})


def _with_column(matrix: torch.Tensor, column: int, values: torch.Tensor) -> torch.Tensor:
    matrix = matrix.clone()
    matrix[:, column] = values
    return matrix
