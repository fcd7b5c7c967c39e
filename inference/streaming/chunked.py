"""Rows of several objects as chunks of the model's arguments: tensors, each of one type and one shape of a row."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from ..inputs.call import argument_names, refuse_wrong_number
from ..inputs.chunks import paired_parts
from ..inputs.labels import Labels
from ..inputs.rounding import digits_lost
from ..inputs.tables import as_table, by_column
from ..runtime.generators import generator_states, generators_kept
from .convert import Form, as_tensors, like_first
from .labels import has_labels, labels_of
from .part import Part
from .sizes import chunks_of

FIRST = 64  # rows that are looked at, where any number can be read


class Source(NamedTuple):
    """Rows that do not fit into memory, read chunk by chunk: `read(k)` or, many of them, `stream`."""

    n: int  # rows in all
    chunks: tuple[slice, ...]  # which rows each chunk holds
    raw: Callable[[Sequence[int], int | None], Iterator[tuple[Any, ...]]]  # chunks as they are stored; see `stream`
    form: Form  # of the tensors that they become
    rows: tuple[int, ...]  # positions of the model's arguments that have rows
    others: tuple[Any, ...]  # the arguments as the user gave them, None in the place of those with rows
    names: list[str]  # of all arguments
    columns: tuple[list[str] | None, ...]  # the column names of an argument that is a table, else None
    notices: tuple[str, ...]  # which labels became codes; digits that single precision loses
    bytes_of_row: int  # in a window
    in_order: bool = False  # whether chunks come from the first to the last only
    draws: bool = False  # whether reading draws random numbers in this process
    seeded: bool = False  # whether chunks depend on a seed
    text: bool = False  # whether an argument holds labels, whose codes a pass over all rows finds

    @property
    def codes(self) -> Labels:
        """The labels in all rows, in the order of their codes."""
        return self.form.codes

    def stream(self, order: Sequence[int], seed: int | None = None) -> Iterator[tuple[torch.Tensor, ...]]:
        """The rows of these chunks on the CPU, shape (rows, ...), for each argument that has rows.

        seed: of what the user's program draws to make rows. Raises NotRead for rows that cannot be read.
        """
        for k, values in zip(order, self.raw(order, seed), strict=False):
            yield as_tensors(self.form, values, self.chunks[k])

    def read(self, k: int) -> tuple[torch.Tensor, ...]:
        """The rows of chunk k, as by `stream`."""
        return next(self.stream([k], 0 if self.seeded else None))

    def given(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """All arguments of the model: these values in the place of those that have rows."""
        places = dict(zip(self.rows, values, strict=True))
        return tuple(places.get(i, value) for i, value in enumerate(self.others))

    def names_of_rows(self) -> list[str]:
        """The names of the arguments that have rows, in the order of what `read` returns."""
        return [self.names[i] for i in self.rows]


def opened(model: Callable[..., Any], whole: list[Any], n: int) -> Source:
    """The source of these parts (arguments with rows) and values (other arguments), without the codes of labels."""
    parts = [value for value in whole if isinstance(value, Part)]
    asked = next((part.chunks for part in parts if part.chunks is not None), None)
    look = asked[0] if asked else slice(0, min(n, FIRST, *(part.most for part in parts)))
    with generators_kept():
        before = generator_states()
        first = next(_raw(parts, [look], None))
        draws = any(part.runs for part in parts) and not _same(before, generator_states())
    positions, others = list[int](), list[Any]()
    for value in whole:
        width = len(first[parts.index(value)]) if isinstance(value, Part) else 1
        positions += range(len(others), len(others) + width) if isinstance(value, Part) else []
        others += [None] * width if isinstance(value, Part) else [value]
    taken = _columns_for(model, first) if len(others) == 1 else None
    if taken is not None:
        positions, others = list(range(len(taken))), [None] * len(taken)
    refuse_wrong_number(model, tuple(others))
    names = argument_names(model, len(others))

    flat = tuple(value for part in first for value in part)
    if taken is not None:  # columns that no argument takes may come and go
        flat = (flat[0][[column for one in taken for column in (one if isinstance(one, list) else [one])]],)

    def values_of(raw: tuple[tuple[Any, ...], ...], rows: slice) -> tuple[Any, ...]:
        values = like_first(flat, tuple(value for part in raw for value in part), rows, more=taken is not None)
        return values if taken is None else tuple(values[0][columns] for columns in taken)

    values, own = values_of(first, look), [names[i] for i in positions]
    text = any(map(has_labels, values))
    codes = labels_of(own, [values]).codes if text else {}
    found = as_tensors(Form(own, codes), values, look)
    form = Form(own, codes, tuple(v.dtype for v in found), tuple(v.shape[1:] for v in found))
    bytes_of_row = max(1, sum(map(_bytes, found)))
    chunks = chunks_of(parts, bytes_of_row, n)
    columns: list[list[str] | None] = [None] * len(others)
    for place, value in zip(positions, values, strict=True):
        columns[place] = list(value.columns) if isinstance(value, pd.DataFrame) else None
    lost = [digits_lost(name, value) for name, value in zip(own, found, strict=True)]
    apart = any(part.apart for part in parts)

    def raw(order: Sequence[int], seed: int | None) -> Iterator[tuple[Any, ...]]:
        rows = [chunks[k] for k in order]
        return map(values_of, _raw(parts, rows, seed), rows)

    return Source(
        n=n,
        chunks=chunks,
        raw=raw,
        form=form,
        rows=tuple(positions),
        others=tuple(others),
        names=names,
        columns=tuple(columns),
        notices=tuple(notice for notice in lost if notice),
        bytes_of_row=bytes_of_row,
        in_order=any(part.in_order for part in parts),
        draws=draws and not apart,
        seeded=draws or apart,
        text=text,
    )


def labelled(source: Source, codes: Labels | None = None) -> Source:
    """The source with the codes of the labels that all rows hold: those given, or it reads all rows once."""
    if not source.text:
        return source
    if codes is not None:
        return source._replace(form=source.form._replace(codes=codes))
    with generators_kept():
        found = labels_of(source.form.names, source.raw(range(len(source.chunks)), None))
    return source._replace(form=source.form._replace(codes=found.codes), notices=(*found.notices, *source.notices))


def _raw(parts: list[Part], rows: Sequence[slice], seed: int | None) -> Iterator[tuple[tuple[Any, ...], ...]]:
    """For each slice of rows, the values of each part as they are stored."""
    return zip(*(map(_tables, part.stream(rows, seed)) for part in parts), strict=False)


def _tables(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return paired_parts(tuple(as_table(value) for value in values))


def _columns_for(model: Callable[..., Any], first: tuple[tuple[Any, ...], ...]) -> tuple[Any, ...] | None:
    """For one table alone, the column or the columns that each argument of the model takes; None for anything else."""
    values = [value for part in first for value in part]
    if len(values) != 1 or not isinstance(values[0], pd.DataFrame):
        return None
    taken = by_column(model, values[0])
    return tuple(list(v.columns) if isinstance(v, pd.DataFrame) else v.name for v in taken)


def _bytes(value: torch.Tensor) -> int:
    """Bytes of a row of a window."""
    size = torch.get_default_dtype().itemsize if value.is_floating_point() else value.element_size()
    return value[0].numel() * size


def _same(one: Any, other: Any) -> bool:
    """Whether two states of the generators are equal."""
    if isinstance(one, dict):
        return all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray | torch.Tensor) else bool(one == other)
