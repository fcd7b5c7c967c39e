"""Rows of one object that the user gave: how many they are, and how to read some of them."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple


class NotRead(ValueError):
    """Rows of the user's data could not be read, or are not as the data began."""


Stream = Callable[[Sequence[slice], int | None], Iterator[tuple[Any, ...]]]  # (slices, seed of what they draw) -> rows


class Part(NamedTuple):
    """Rows of one object that the user gave, for one argument of the model or for several."""

    noun: str  # what messages call it
    n: int  # rows
    stream: Stream
    chunks: tuple[slice, ...] | None = None  # the only slices that can be read; None: any
    most: int = sys.maxsize  # rows of a slice, where any can be read
    in_order: bool = False  # whether slices come from the first to the last only
    runs: bool = False  # whether reading runs a program of the user's, which may draw random numbers
    apart: bool = False  # whether processes of their own read, which draw from generators of their own


def random_access(read: Callable[[slice], tuple[Any, ...]]) -> Stream:
    """The stream of a part whose slices are read one by one, `read` returning the rows of one."""
    return lambda slices, seed: map(read, slices)


def uniform(n: int, rows: int) -> tuple[slice, ...]:
    """Slices of so many rows each, the last one of what is left."""
    return tuple(slice(k, min(k + rows, n)) for k in range(0, n, rows))
