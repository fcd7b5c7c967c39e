"""Warnings of a run, raised at the line of the user's program that called it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def warning_caller(collected: list[str]) -> Iterator[None]:
    """Around the whole body of a public call: warns of everything collected, at the line that made the call.

    The warnings come at the end of the call, so that the number of frames to the user's line is always the same; also
    after an error, which they never replace, not even where a filter makes errors of them.
    """
    try:
        yield
    except BaseException:
        while collected:
            with suppress(Warning):
                warnings.warn(collected.pop(0), stacklevel=4)
        raise
    while collected:
        warnings.warn(collected.pop(0), stacklevel=4)  # this function, contextlib's exit, the call, the user
