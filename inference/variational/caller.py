"""What the caller of a run hears: its warnings, at the line that called it, and what to lower if memory runs out."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ..runtime.vectorise import is_out_of_memory
from ..stepping.settings import Settings


@contextmanager
def warning_caller(
    collected: list[str], result: Sequence[Any] = (), lower: Callable[[], str] | None = None, first: bool = True
) -> Iterator[None]:
    """Around the whole body of a public call: warns of everything collected, at the line that made the call.

    The warnings come at the end of the call, so that the number of frames to the user's line is always the same; also
    after an error, which they never replace, not even where a filter makes errors of them. Where it makes an error of
    one at the end of a run, that error has the others as notes, and the result of the call as `.fit`.
    result: the result of the call, appended before the body ends. lower: which arguments to lower where memory is too
    small: torch's error becomes a MemoryError that says so. first: False in all processes of a run
    but one, which warn of nothing.
    """
    try:
        yield
        collected[:] = collected if first else []
    except BaseException as error:
        collected[:] = collected if first else []
        while collected:
            with suppress(Warning):
                warnings.warn(collected.pop(0), stacklevel=4)
        if lower is not None and is_out_of_memory(error):
            raise _too_large(error, lower()) from error
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


def what_to_lower(settings: Settings, particles: int | None) -> str:
    """The arguments that make a step of a run smaller. particles: of a step, None before they are known."""
    size, particles = settings.batch_size, settings.particles or particles
    rows = f"lower batch_size ({size:,} now)" if size is not None else "give batch_size="
    return rows + (f" or lower particles ({particles:,} now)" if particles is not None and particles > 1 else "")


def _too_large(error: BaseException, lower: str) -> MemoryError:
    """The error of a run that does not fit into memory; it has the result so far as `.fit`, if there is one."""
    said = str(error).splitlines()[0][:200].rstrip(".")
    found = MemoryError(f"out of memory: {lower}. What was learnt is kept, and the runner can go on ({said})")
    if (fit := getattr(error, "fit", None)) is not None:
        found.fit = fit  # type: ignore[attr-defined]
    return found
