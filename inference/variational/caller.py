"""Warnings of a run, raised at the line of the user's program that called it."""

import warnings


def warn_caller(collected: list[str]) -> None:
    """Warns of everything collected and empties the list. The line shown is that of the caller's caller.

    A public call collects its warnings on the way and calls this at its end, also after an error: the number of
    frames to the user's line is then always the same.
    """
    while collected:
        warnings.warn(collected.pop(0), stacklevel=3)
