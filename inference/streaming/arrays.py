"""Memory-mapped arrays: rows are copied from the file, and its pages are given back at once.

A page of the file that was read counts as memory of the process until the system takes it back; `madvise` gives it
back, so that the memory in use stays flat however large the file is. Source: man 2 madvise, MADV_DONTNEED.
"""

import mmap
import os
from typing import Any

import numpy as np

from .part import NotRead, Part, random_access

SHARED = ("r", "r+", "w+")  # modes in which the file holds every change, so that pages can be given back


def of_memmap(array: np.memmap, name: str) -> Part:
    """The rows of a memory-mapped array. name: of the argument, for messages.

    Reading raises NotRead where the file became shorter: touching rows that it lost would end the process (SIGBUS).
    """
    file, inode = getattr(array, "filename", None), None
    if file is not None and os.path.exists(file):
        inode = os.stat(file).st_ino
    first = _begin(array)

    def read(rows: slice) -> tuple[Any, ...]:
        part = array[rows]
        _refuse_short_file(array, file, inode, first, part, rows, name)
        copied = np.array(part, subok=False)
        _give_back(array, part)
        return (copied,)

    return Part(f"np.memmap {name}", len(array), random_access(read))


def is_memmap(value: Any) -> bool:
    """Whether this is an array in a file, with rows."""
    return isinstance(value, np.memmap) and value.ndim > 0 and getattr(value, "_mmap", None) is not None


def _begin(array: np.memmap) -> int | None:
    """The address of the first byte of the mapping; None where it is not to be had."""
    try:
        return int(np.frombuffer(array._mmap, np.uint8).__array_interface__["data"][0])  # type: ignore[attr-defined]
    except (TypeError, ValueError, AttributeError):
        return None


def _refuse_short_file(
    array: np.memmap, file: Any, inode: int | None, first: int | None, part: np.ndarray, rows: slice, name: str
) -> None:
    if inode is None or first is None or not part.size:
        return
    try:
        now = os.stat(file)
    except OSError:  # the file lost its name; what is mapped stays
        return
    if now.st_ino != inode:  # another file has the name now
        return
    _, end = np.lib.array_utils.byte_bounds(part)
    page = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY  # of the file, where the mapping begins
    wanted = page + end - first
    if now.st_size < wanted:
        raise NotRead(
            f"{name}: its file has {now.st_size:,} bytes, and row {rows.stop - 1:,} ends at byte {wanted:,}: it became "
            f"shorter since it was opened ({file}). Write it again, and go on from a checkpoint"
        )


def _give_back(array: np.memmap, part: np.ndarray) -> None:
    """Gives the pages of the file that were read back to the system."""
    advice, first = getattr(mmap, "MADV_DONTNEED", None), _begin(array)
    if advice is None or first is None or getattr(array, "mode", None) not in SHARED or not part.size:
        return
    low, high = np.lib.array_utils.byte_bounds(part)
    begin = (low - first) // mmap.PAGESIZE * mmap.PAGESIZE
    array._mmap.madvise(advice, begin, high - first - begin)  # type: ignore[attr-defined]
