"""Warnings of a run, raised at the line of the user's program that called it."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def warning_caller(collected: list[str], result: Sequence[Any] = ()) -> Iterator[None]:
    """Around the whole body of a public call: warns of everything collected, at the line that made the call.

    The warnings come at the end of the call, so that the number of frames to the user's line is always the same; also
    after an error, which they never replace, not even where a filter makes errors of them. Where it makes an error of
    one at the end of a run, that error has the others as notes, and the result of the call as `.fit`.
    result: the result of the call, appended before the body ends.
    """
    try:
        yield
    except BaseException:
        while collected:
            with suppress(Warning):
                warnings.warn(collected.pop(0), stacklevel=4)
        raise
    try:
        while collected:
            warnings.warn(collected.pop(0), stacklevel=4)  # this function, contextlib's exit, the call, the user
    except Warning as error:
        while collected:
            error.add_note(collected.pop(0))
        if result:
            error.fit = result[0]  # type: ignore[attr-defined]
            error.add_note("credo: the run has ended; .fit of this warning holds its result")
        raise
