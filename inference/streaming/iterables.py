"""Iterables with a length: rows that come from the first to the last only, cut anew into chunks of one length.

A window then holds rows that stand together, shuffled; which rows are left out in an epoch is at random. An iterable
whose order says something, as time or class, is better given as an array in a file, or shuffles itself at each `iter`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyro

from ..inputs.chunks import counted, joined, noun, rows_of_chunked
from .order import seed_of
from .part import NotRead, Part, uniform

ROWS = 4096  # of a chunk, at most


def of_iterable(value: Any) -> Part:
    """The rows of an iterable with a length, which each epoch reads from the first to the last.

    Reading raises NotRead where it ends early or gives more than its length, and says how many rows came.
    """
    n = rows_of_chunked(value)
    assert n is not None
    name = noun(value)

    chunks = uniform(n, min(n, ROWS))

    def stream(slices: Sequence[slice], seed: int | None) -> Iterator[tuple[Any, ...]]:
        wanted, last = {rows.start for rows in slices}, slices[-1].start
        source = _checked(value)
        have, at, end = tuple[Any, ...](), 0, 0  # rows from number `at` to before `end`
        for rows in chunks:
            if seed is not None:
                pyro.util.set_rng_seed(seed_of(seed, rows.start))
            while end < rows.stop:
                new, _ = next(source)
                have = tuple(joined([a, b]) for a, b in zip(have, new, strict=True)) if have else new
                end += len(new[0])
            if rows.stop == n:
                for _ in source:  # gives nothing, or says that there is more
                    pass
            parts, have = (
                tuple(_rows(part, *cut) for part in have) for cut in ((0, rows.stop - at), (rows.stop - at, end - at))
            )
            at = rows.stop
            if rows.start in wanted:
                yield parts
            if rows.start == last:
                return

    return Part(name, n, stream, chunks, in_order=True, runs=True)


def _checked(value: Any) -> Iterator[tuple[tuple[Any, ...], int]]:
    try:
        yield from counted(value)
    except NotRead:
        raise
    except ValueError as error:
        raise NotRead(str(error)) from error


def _rows(part: Any, begin: int, end: int) -> Any:
    return part.iloc[begin:end] if hasattr(part, "iloc") else part[begin:end]
