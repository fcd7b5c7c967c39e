"""The user's data as a source of chunks, where they are read from elsewhere and do not fit into a window."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch

from ..inputs.call import argument_names, refuse_wrong_number
from ..inputs.datasets import unpacked
from ..inputs.labels import Labels
from ..inputs.rounding import digits_lost
from ..inputs.tables import as_table, by_column
from .arrays import is_memmap, of_memmap
from .convert import Form, as_tensors
from .part import NotRead, Part
from .resident import of_resident, rows_in

WINDOW = 2**27  # bytes of a window, and of data that are read whole
CHUNK = 2**20  # bytes of a chunk, where the data do not say what can be read at once


class Source(NamedTuple):
    """Rows that do not fit into memory, read chunk by chunk: `read(k)` or, many of them, `stream`."""

    n: int  # rows in all
    chunks: tuple[slice, ...]  # which rows each chunk holds
    read: Callable[[int], tuple[torch.Tensor, ...]]  # the rows of a chunk on the CPU, an entry for each of `rows`
    stream: Callable[[Sequence[int]], Iterator[tuple[torch.Tensor, ...]]]  # the same for many chunks
    rows: tuple[int, ...]  # positions of the model's arguments that have rows
    others: tuple[Any, ...]  # the arguments as the user gave them, None in the place of those with rows
    names: list[str]  # of all arguments
    columns: tuple[list[str] | None, ...]  # the column names of an argument that is a table, else None
    codes: Labels  # of the labels in all rows
    notices: tuple[str, ...]  # which labels became codes; digits that single precision loses
    bytes_of_row: int  # in a window
    in_order: bool = False  # whether chunks come from the first to the last only
    draws: bool = False  # whether reading a chunk draws random numbers

    def given(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """All arguments of the model: these values in the place of those that have rows."""
        places = dict(zip(self.rows, values, strict=True))
        return tuple(places.get(i, value) for i, value in enumerate(self.others))

    def names_of_rows(self) -> list[str]:
        """The names of the arguments that have rows, in the order of what `read` returns."""
        return [self.names[i] for i in self.rows]


def source_of(model: Callable[..., Any], data: tuple[Any, ...], batch_size: int | None = None) -> Source | None:
    """The data as a source of chunks; None where a run reads them whole, as tensors.

    They are read whole where they are in memory, or fit into a window, or, without batches, into memory.
    Raises ValueError for data without batches that memory does not hold, and for rows that cannot be read together.
    """
    names = argument_names(model, len(data))
    parts = [_part(value, name) for value, name in zip(data, names, strict=True)]
    if all(part is None for part in parts):
        return None
    n = next(part.n for part in parts if part is not None)
    for value, name, part in zip(data, names, parts, strict=True):
        if part is not None and part.n != n:
            raise ValueError(f"{name}: {part.noun} has {part.n:,} rows, and the rows before it are {n:,}")
    whole = [
        part if part is not None else of_resident(value, name) if rows_in(value) == n else value
        for value, name, part in zip(data, names, parts, strict=True)
    ]
    opened = _opened(model, whole, n)
    if n * opened.bytes_of_row <= WINDOW:
        return None
    return opened if batch_size is not None else None


def rows_of_window(source: Source, batch: int, part: tuple[int, int] = (0, 1)) -> int:
    """The rows of a window: a multiple of the batch, near WINDOW bytes, so that an epoch has few rows left over.

    batch: rows that one process takes in a step. part: (rank, number of processes).
    Raises ValueError for a batch larger than the rows that a process has.
    """
    own = source.n // part[1]
    if batch > own:
        raise ValueError(f"batch_size: got {batch:,} rows for each process, and each has {own:,}")
    most = max(WINDOW // source.bytes_of_row, batch)
    windows = -(-own // most)
    return max(own // windows // batch, 1) * batch


def _part(value: Any, name: str) -> Part | None:
    """The rows of a value that are read from elsewhere; None for a value in memory, and for what has no rows."""
    return of_memmap(value, name) if is_memmap(value) else None


def _opened(model: Callable[..., Any], whole: list[Any], n: int) -> Source:
    """The source of these parts (arguments with rows) and values (other arguments)."""
    parts = [value for value in whole if isinstance(value, Part)]
    bounds = _bounds(parts, n)
    first = next(_raw(parts, (bounds[:1])))
    places, arguments, position = [], [], 0
    for value in whole:
        width = len(first[parts.index(value)]) if isinstance(value, Part) else 1
        places += range(position, position + width) if isinstance(value, Part) else []
        arguments += [None] * width if isinstance(value, Part) else [value]
        position += width
    flat = tuple(value for values in first for value in values)
    taken = _columns_for(model, flat) if len(arguments) == 1 else None
    if taken is not None:
        places, arguments = list(range(len(taken))), [None] * len(taken)
    refuse_wrong_number(model, tuple(arguments))
    names = argument_names(model, len(arguments))

    def values_of(raw: tuple[tuple[Any, ...], ...]) -> tuple[Any, ...]:
        values = tuple(value for part in raw for value in part)
        return values if taken is None else tuple(values[0][columns] for columns in taken)

    values = values_of(first)
    form = Form([names[i] for i in places], {})
    found = as_tensors(form, values, bounds[0])
    form = form._replace(kinds=tuple(v.dtype for v in found), shapes=tuple(v.shape[1:] for v in found))
    chunks = _smaller(bounds, parts, sum(_bytes(v) for v in found), n)

    def stream(order: Sequence[int]) -> Iterator[tuple[torch.Tensor, ...]]:
        rows = [chunks[k] for k in order]
        for one, raw in zip(rows, _raw(parts, rows), strict=True):
            yield as_tensors(form, values_of(raw), one)

    columns: list[list[str] | None] = [None] * len(arguments)
    for place, value in zip(places, values, strict=True):
        columns[place] = list(value.columns) if isinstance(value, pd.DataFrame) else None
    lost = [digits_lost(name, value) for name, value in zip(form.names, found, strict=True)]
    return Source(
        n=n,
        chunks=chunks,
        read=lambda k: next(stream([k])),
        stream=stream,
        rows=tuple(places),
        others=tuple(arguments),
        names=names,
        columns=tuple(columns),
        codes=form.codes,
        notices=tuple(notice for notice in lost if notice),
        bytes_of_row=max(1, sum(_bytes(v) for v in found)),
        in_order=any(part.in_order for part in parts),
        draws=any(part.draws for part in parts),
    )


def _raw(parts: list[Part], rows: Sequence[slice]) -> Iterator[tuple[tuple[Any, ...], ...]]:
    """For each slice of rows, the values of each part as they are stored."""
    return zip(*(map(_tables, part.streamed(rows)) for part in parts), strict=True)


def _tables(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(as_table(value) for value in values)


def _columns_for(model: Callable[..., Any], values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """For one table alone, the column or the columns that each argument of the model takes; None for anything else."""
    if len(values) != 1 or not isinstance(values[0], pd.DataFrame):
        return None
    taken = by_column(model, values[0])
    return tuple(list(v.columns) if isinstance(v, pd.DataFrame) else v.name for v in taken)


def _bounds(parts: list[Part], n: int) -> tuple[slice, ...]:
    """Slices that every part can read: those that one part asks for, or the first row and the rest."""
    asked = {part.chunks: part for part in parts if part.chunks is not None}
    if len(asked) > 1:
        one, other = list(asked.values())[:2]
        raise ValueError(
            f"{one.noun} and {other.noun} come in chunks of different rows, which cannot be read together; put the "
            f"columns of both into one file"
        )
    return next(iter(asked), None) or (slice(0, min(n, 256)),)


def _smaller(bounds: tuple[slice, ...], parts: list[Part], bytes_of_row: int, n: int) -> tuple[slice, ...]:
    """The chunks: those that a part asks for, or as many rows as CHUNK bytes hold."""
    if any(part.chunks is not None for part in parts):
        return bounds
    rows = max(1, CHUNK // max(1, bytes_of_row))
    return tuple(slice(k, min(k + rows, n)) for k in range(0, n, rows))


def _bytes(value: torch.Tensor) -> int:
    """Bytes of a row of a window."""
    size = torch.get_default_dtype().itemsize if value.is_floating_point() else value.element_size()
    return value[0].numel() * size
