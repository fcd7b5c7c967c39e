"""Rows of one object that the user gave: how many they are, and how to read some of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple


class Part(NamedTuple):
    """Rows of one object that the user gave, for one argument of the model or for several."""

    noun: str  # what messages call it
    n: int  # rows
    read: Callable[[slice], tuple[Any, ...]]  # these rows: an array, a tensor or a table for each argument
    chunks: tuple[slice, ...] | None = None  # the only slices that can be read; None: any
    stream: Callable[[Sequence[slice]], Iterator[tuple[Any, ...]]] | None = None  # many slices; None: one by one
    in_order: bool = False  # whether rows can be read from the first to the last only
    draws: bool = False  # whether reading runs a program of the user's, which may draw random numbers
    kept: bool = False  # whether the rows are in memory

    def streamed(self, slices: Sequence[slice]) -> Iterator[tuple[Any, ...]]:
        """The rows of these slices, one slice after the other."""
        return map(self.read, slices) if self.stream is None else self.stream(slices)


class NotRead(ValueError):
    """Rows of the user's data could not be read, or are not as the data began."""
