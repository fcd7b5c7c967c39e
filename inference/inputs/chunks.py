"""Iterables that give rows chunk by chunk, anew each time: an IterableDataset, its DataLoader, or a class of one's own.

`len()` of such an object is the number of its rows. Its items are chunks: a tuple of tensors or arrays, one for each
argument, or a table. An IterableDataset gives rows, one by one, as torch says; its DataLoader gives batches of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from ..runtime.generators import generators_kept
from .tables import as_table, paired_by_index

TOGETHER = 256  # rows that are stacked at once, where they come one by one
NO_CHUNKS = (nn.Module, Mapping, Sequence, Set, Iterator, torch.Tensor, np.ndarray, pd.Series, pd.DataFrame, Dataset)


def is_chunked(value: Any) -> bool:
    """Whether this is an iterable with a length that gives rows: its first item, which is read, says so."""
    if (dataset := _iterable_dataset(value)) is not None:
        return rows_of_chunked(dataset) is not None
    kind = type(value)
    if isinstance(value, (*NO_CHUNKS, DataLoader)) or not (hasattr(kind, "__len__") and hasattr(kind, "__iter__")):
        return False
    if any(hasattr(kind, name) for name in ("__getitem__", "__array__", "__arrow_c_stream__", "__dataframe__")):
        return False
    with generators_kept():  # the run draws what it would have drawn without this look
        first = next(iter(value), None)
    return isinstance(as_table(first), pd.DataFrame) or (
        isinstance(first, tuple | list) and len(first) > 0 and all(map(_has_rows, first))
    )


def rows_of_chunked(value: Any) -> int | None:
    """How many rows such an object says that it has; None for an IterableDataset that does not say it."""
    dataset = _iterable_dataset(value)
    try:
        return len(value if dataset is None else dataset)
    except (TypeError, NotImplementedError):
        return None


def items(value: Any) -> Iterator[tuple[Any, ...]]:
    """Its rows from the first to the last, some at once: an array, a tensor or a table for each argument.

    Raises ValueError for items that are dictionaries, or no rows.
    """
    name = noun(value)
    for item in _stacked(value) if isinstance(value, IterableDataset) else value:
        item = as_table(item)
        if isinstance(item, Mapping):
            raise ValueError(
                f"data: the rows of {name} are dictionaries; give tuples of the tensors of their keys: {list(item)}"
            )
        parts = parts_of(item)
        if not parts or not all(map(_has_rows, parts)):
            raise ValueError(f"data: {name} gave {type(item).__name__}, wanted a tuple of tensors, arrays or a table")
        yield paired_parts(parts)


def paired_parts(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """The parts of a chunk, its tables with their rows in the order of the first one's index, as those in memory."""
    return paired_by_index([f"part {i + 1} of a chunk" for i in range(len(parts))], parts)


def parts_of(rows: Any) -> tuple[Any, ...]:
    """Rows that a program gave, stacked: one part for each argument, text as an array."""
    parts = tuple(rows) if isinstance(rows, tuple | list) and not is_text(rows) else (rows,)
    return tuple(np.array(part) if is_text(part) else part for part in parts)


def counted(value: Any) -> Iterator[tuple[tuple[Any, ...], int]]:
    """(some rows, the number of those before them), as `items` gives them.

    Raises ValueError, after the last of them, where they are fewer or more than its length says.
    """
    n, before, first = rows_of_chunked(value), 0, None
    for number, parts in enumerate(items(value), start=1):
        first = first or parts
        if len(parts) != len(first):
            raise ValueError(f"data: chunk {number:,} of {noun(value)} has {len(parts)} parts, the first {len(first)}")
        lengths = {len(part) for part in parts}
        if len(lengths) > 1:
            raise ValueError(f"data: chunk {number:,} of {noun(value)} has parts of {sorted(lengths)} rows")
        if n is not None and before + len(parts[0]) > n:
            raise ValueError(
                f"data: {noun(value)} gave more rows than its length says: {before + len(parts[0]):,} so far, its "
                f"length is {n:,}; let len() be the number of its rows, not of its chunks"
            )
        yield parts, before
        before += len(parts[0])
    if n is not None and before < n:
        raise ValueError(
            f"data: {noun(value)} ended after {before:,} rows, {n - before:,} fewer than its length says, {n:,}; let "
            f"len() be the number of its rows, and let each iteration give all of them"
        )


def collected(value: Any) -> tuple[Any, ...]:
    """All rows of such an object: an array, a tensor or a table for each argument. Raises ValueError as `counted`."""
    chunks = [parts for parts, _ in counted(value)]
    if not chunks:
        raise ValueError(f"data: {noun(value)} has no rows")
    return tuple(joined(list(parts)) for parts in zip(*chunks, strict=True))


def joined(parts: list[Any]) -> Any:
    """Rows of several chunks as one tensor, array or table."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], pd.DataFrame | pd.Series):
        return pd.concat(parts)
    return torch.cat(parts) if isinstance(parts[0], torch.Tensor) else np.concatenate(parts)


def noun(value: Any) -> str:
    """What messages call it: the name of its class."""
    return type(value if (dataset := _iterable_dataset(value)) is None else dataset).__name__


def _iterable_dataset(value: Any) -> Any:
    """The IterableDataset that this is or that its DataLoader reads; None for anything else."""
    dataset = value.dataset if isinstance(value, DataLoader) else value
    return dataset if isinstance(dataset, IterableDataset) else None


def _stacked(rows: Iterable[Any]) -> Iterator[Any]:
    """Rows that come one by one, as batches."""
    each = iter(rows)
    while block := list(islice(each, TOGETHER)):
        yield default_collate(block)


def _has_rows(part: Any) -> bool:
    if isinstance(part, pd.DataFrame | pd.Series) or is_text(part):
        return True
    return isinstance(part, torch.Tensor | np.ndarray) and part.ndim > 0


def is_text(part: Any) -> bool:
    """Whether a part of rows is text, of which torch makes no tensor."""
    return isinstance(part, list | tuple) and len(part) > 0 and all(isinstance(value, str) for value in part)
