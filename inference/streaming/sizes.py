"""How much of the data memory holds: the size of windows and chunks, and the memory that is free."""

import os
from pathlib import Path

from .part import Part, uniform

WINDOW = 2**27  # bytes of a window, and of data that are read whole
CHUNK = 2**20  # bytes of a chunk, where the data do not say what can be read at once
SHARE = 0.5  # of the free memory, which data without batches may fill
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # of a container


def fits(n: int, bytes_of_row: int) -> bool:
    """Whether so many rows are no more than a window."""
    return n * bytes_of_row <= WINDOW


def refuse_too_large(noun: str, n: int, bytes_of_row: int) -> None:
    """Raises ValueError for rows without batches that are larger than SHARE of the free memory. noun: the data."""
    free, size = free_memory(), n * bytes_of_row
    if free is not None and size > SHARE * free:
        raise ValueError(
            f"batch_size: {noun} has {n:,} rows, {size / 1e9:,.1f} GB in memory, of which {free / 1e9:,.1f} GB are "
            f"free; pass batch_size=1000, say: the rows are then read by windows, never all of them at once"
        )


def free_memory() -> int | None:
    """Bytes of memory that are free for this process; None where the system does not say it."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
            found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in LIMITS:
        try:
            found.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such limit
            pass
    return min(found, default=None)


def chunks_of(parts: list[Part], bytes_of_row: int, n: int) -> tuple[slice, ...]:
    """The rows of each chunk: as a part asks for it, or as many as CHUNK bytes hold.

    Raises ValueError for two parts that ask for different ones.
    """
    asked = [part for part in parts if part.chunks is not None]
    if other := next((part for part in asked if part.chunks != asked[0].chunks), None):
        one = asked[0]
        raise ValueError(
            f"{one.noun} and {other.noun} come in chunks of different rows, which cannot be read together; put the "
            f"columns of both into one file"
        )
    if asked:
        return asked[0].chunks or ()
    return uniform(n, min(max(1, CHUNK // bytes_of_row), *(part.most for part in parts), n))


def size_of_window(n: int, bytes_of_row: int, batch: int) -> int:
    """The rows of a window of n: a multiple of the batch, near WINDOW bytes, so that few of the n rows are left over.

    Raises ValueError for a batch of more than n rows.
    """
    if batch > n:
        raise ValueError(f"batch_size: got {batch:,} rows for each process, and each has {n:,}")
    windows = -(-n // max(WINDOW // bytes_of_row, batch))
    return max(n // windows // batch, 1) * batch
