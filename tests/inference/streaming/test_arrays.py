"""Memory-mapped arrays: their rows, the memory of the process, and files that become shorter."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from credo.inference.streaming.arrays import is_memmap, of_memmap


def read(part, begin, end):
    return next(part.stream([slice(begin, end)], None))[0]


def test_rows_of_arrays_and_of_their_views(tmp_path):
    whole = np.arange(4000, dtype="f8").reshape(1000, 4)
    np.save(tmp_path / "x.npy", whole)
    for mode in ("r", "r+", "c"):
        x = np.load(tmp_path / "x.npy", mmap_mode=mode)
        for view, expected in ((x, whole), (x[10:, 1:3], whole[10:, 1:3]), (x[::-1], whole[::-1])):
            assert is_memmap(view)
            part = of_memmap(view, "x")
            assert part.n == len(expected) and np.array_equal(read(part, 100, 300), expected[100:300])
    x[5] = -1  # copy on write: what the user changed is in no file, so its pages cannot be given back
    assert (read(of_memmap(x, "x"), 0, 10)[5] == -1).all() and (read(of_memmap(x, "x"), 0, 10)[5] == -1).all()
    assert not is_memmap(np.array(x))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_pages_that_were_read_do_not_count_as_memory(tmp_path):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    x = np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(8_000_000,))
    x[:] = 1
    x = np.memmap(tmp_path / "x", dtype="f4", mode="r")
    part, before = of_memmap(x, "x"), resident()
    for begin in range(0, len(x), 100_000):
        read(part, begin, begin + 100_000)
    assert resident() - before < 16e6  # of 32 MB in the file


def test_a_file_that_became_shorter_is_named_with_the_row(tmp_path):
    x = np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(100_000, 2))
    part = of_memmap(np.memmap(tmp_path / "x", dtype="f4", mode="r", shape=x.shape), "x")
    os.truncate(tmp_path / "x", 400_000)
    assert len(read(part, 0, 50_000)) == 50_000
    with pytest.raises(ValueError, match=re.escape("x: its file has 400,000 bytes, and row 99,999 ends at")):
        read(part, 90_000, 100_000)
