"""Parquet files by row groups, which pyarrow decodes one by one: a path, a ParquetFile, or a Dataset of pyarrow's.

A row group is the least that can be read, and so a chunk: files with many small ones (`row_group_size=50_000`) mix
better in a window than files with few.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ..inputs.arrow import from_arrow
from ..inputs.files import parquet_file
from ..runtime.traced import first_line
from .part import NotRead, Part, random_access


def of_parquet(value: Any) -> Part:
    """The rows of Parquet files, a chunk for each row group.

    Reading raises NotRead, which names file and rows, for one that was cut short, changed, or vanished.
    """
    opened = parquet_file(value)
    noun = str(value) if isinstance(value, Path) else f"a {type(value).__name__}"
    groups = _of_file(opened) if hasattr(opened, "read_row_group") else _of_dataset(opened)
    chunks, readers, at = [], {}, 0
    for n, reader in groups:
        if n:
            chunks.append(slice(at, at + n))
            readers[at] = reader
        at += n
    if not at:
        raise ValueError(f"{noun}: has no rows")

    def read(rows: slice) -> tuple[pd.DataFrame]:
        place = f"{noun}: rows {rows.start:,} to {rows.stop - 1:,}"
        try:
            stored = readers[rows.start]()
        except (OSError, ValueError) as error:  # pyarrow's errors are both
            raise NotRead(f"{place} cannot be read ({first_line(error)}); was the file changed?") from error
        try:
            table = from_arrow(stored)
        except ValueError as error:  # a column of a type that is no number
            raise NotRead(f"{place} cannot be read ({first_line(error)})") from error
        if len(table) != rows.stop - rows.start:
            raise NotRead(f"{place} are {len(table):,} rows now; the file was changed")
        return (table,)

    return Part(noun, at, random_access(read), tuple(chunks))


def _of_file(opened: Any) -> list[tuple[int, Callable[[], Any]]]:
    """(rows, what reads them) of each row group of a ParquetFile."""

    def reader(k: int) -> Callable[[], Any]:
        return lambda: opened.read_row_group(k)

    metadata = opened.metadata
    return [(metadata.row_group(k).num_rows, reader(k)) for k in range(metadata.num_row_groups)]


def _of_dataset(opened: Any) -> list[tuple[int, Callable[[], Any]]]:
    """The same of a Dataset: of each row group where its files have them, else of each file."""
    schema, found = opened.schema, []

    def reader(fragment: Any) -> Callable[[], Any]:
        return lambda: fragment.to_table(schema=schema)

    for fragment in opened.get_fragments():
        if not hasattr(fragment, "split_by_row_group"):
            found.append((fragment.count_rows(), reader(fragment)))
            continue
        for one in fragment.split_by_row_group():
            found.append((sum(group.num_rows for group in one.row_groups), reader(one)))
    return found
