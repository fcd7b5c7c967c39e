"""The user's data as a source of chunks, where they are read from elsewhere and do not fit into a window."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from ..inputs.call import argument_names
from ..inputs.chunks import is_chunked
from ..inputs.files import is_csv, is_parquet
from ..inputs.labels import Labels
from ..inputs.tables import paired_by_index
from .arrays import is_memmap, of_memmap
from .chunked import Source, labelled, opened
from .csv_file import csv_fits, of_csv
from .datasets import is_map_style, of_dataset
from .iterables import of_iterable
from .parquet import of_parquet
from .part import Part
from .resident import of_resident, rows_in
from .sizes import fits, refuse_too_large, size_of_window

MIXED = 4  # chunks, which a window holds at least, so that its rows are mixed


def source_of(
    model: Callable[..., Any], data: tuple[Any, ...], batch_size: int | None = None, codes: Labels | None = None
) -> Source | None:
    """The data as a source of chunks; None where a run reads them whole, as tensors.

    They are read whole where they are in memory, or fit into a window, or, without batches, into memory.
    codes: of labels, where they are known; None: a pass over all rows finds them.
    Raises ValueError for data without batches that memory does not hold, and for rows that cannot be read together.
    """
    if not any(map(is_elsewhere, data)):
        return None
    if batch_size is None and all(map(csv_fits, filter(is_elsewhere, data))):
        return None
    names = argument_names(model, len(data))
    parts = [_part(value, name) if is_elsewhere(value) else None for value, name in zip(data, names, strict=True)]
    one = next(part for part in parts if part is not None)
    for name, part in zip(names, parts, strict=True):
        if part is not None and part.n != one.n:
            raise ValueError(
                f"{name}: got {part.n:,} rows ({part.noun}) beside {one.n:,} rows ({one.noun}), wanted as many"
            )
    if not one.n:
        raise ValueError(f"{one.noun}: has no rows")
    whole = [
        part or (of_resident(value, name) if rows_in(value) == one.n else value)
        for value, name, part in zip(_paired(names, data, one.n), names, parts, strict=True)
    ]
    found = opened(model, whole, one.n)
    if fits(one.n, found.bytes_of_row):
        return None
    if batch_size is None or batch_size >= one.n:
        refuse_too_large(one.noun, one.n, found.bytes_of_row)
        return None
    grouped = [part for value, part in zip(data, parts, strict=True) if is_parquet(value)]
    return labelled(_with_notice(found, grouped), codes)


def _paired(names: list[str], data: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    """The data with its tables of n rows paired by their index, as if all were in memory; those of files count rows.

    Raises ValueError where indexes do not say which rows belong together.
    """
    counted = pd.DataFrame(index=pd.RangeIndex(n))
    tables = (counted if is_csv(v) or is_parquet(v) else v if rows_in(v) == n else None for v in data)
    both = zip(data, paired_by_index(names, tuple(tables)), strict=True)
    return tuple(p if isinstance(v, pd.DataFrame | pd.Series) and p is not None else v for v, p in both)


def _with_notice(source: Source, parts: list[Part | None]) -> Source:
    """The source with a notice if a window holds few of its chunks, whose rows then are together all the time."""
    rows = max(chunk.stop - chunk.start for chunk in source.chunks)
    asked = next((part for part in parts if part is not None and part.chunks is not None), None)
    if asked is None or MIXED * rows <= size_of_window(source.n, source.bytes_of_row, 1):
        return source
    notice = (
        f"{asked.noun}: its row groups have up to {rows:,} rows, so that a window mixes rows of few of them; write "
        f"it with smaller ones, row_group_size=50_000, or with its rows in a random order"
    )
    return source._replace(notices=(*source.notices, notice))


def rows_of_window(source: Source, batch: int, part: tuple[int, int] = (0, 1)) -> int:
    """The rows of a window: a multiple of the batch, so that an epoch has few rows left over.

    batch: rows that one process takes in a step. part: (rank, number of processes).
    Raises ValueError for a batch larger than the rows that a process has.
    """
    return size_of_window(source.n // part[1], source.bytes_of_row, batch)


def is_elsewhere(value: Any) -> bool:
    """Whether a value has rows that are not in memory: in a file, or made on demand."""
    kinds = (is_memmap, is_csv, is_parquet, is_map_style, is_chunked)
    return any(kind(value) for kind in kinds)


def _part(value: Any, name: str) -> Part:
    """The rows of a value that are not in memory."""
    if is_memmap(value):
        return of_memmap(value, name)
    if is_csv(value):
        return of_csv(value)
    if is_parquet(value):
        return of_parquet(value)
    return of_dataset(value) if is_map_style(value) else of_iterable(value)
