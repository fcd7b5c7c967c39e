"""Sizes of chunks and windows, and the memory that data without batches may fill."""

import numpy as np
import pytest

from credo.inference.streaming import sizes
from credo.inference.streaming.part import Part, random_access, uniform
from credo.inference.streaming.resident import of_resident, rows_in
from credo.inference.streaming.sizes import chunks_of, free_memory, refuse_too_large, size_of_window


def test_chunks_that_no_part_asks_for_hold_a_megabyte():
    part = of_resident(np.arange(10), "x")
    assert chunks_of([part], 2**18, 10) == (slice(0, 4), slice(4, 8), slice(8, 10))
    assert chunks_of([part, part._replace(most=5)], 8, 10) == (slice(0, 5), slice(5, 10))
    assert next(part.stream([slice(2, 4)], None))[0].tolist() == [2, 3]


def test_parts_must_ask_for_the_same_chunks():
    one, other = (Part(name, 10, random_access(tuple), uniform(10, rows)) for name, rows in (("a", 4), ("b", 5)))
    assert chunks_of([one, one], 8, 10) == uniform(10, 4)
    with pytest.raises(ValueError, match="a and b come in chunks of different rows, which cannot be read together"):
        chunks_of([one, other], 8, 10)


def test_windows_leave_less_than_a_batch_each(monkeypatch):
    monkeypatch.setattr(sizes, "WINDOW", 1000)
    for n, batch in ((1001, 10), (99_999, 7), (5000, 300), (250, 250)):
        size = size_of_window(n, 4, batch)
        assert size % batch == 0 and size <= max(250, batch) and n - n // size * size < batch * -(-n // 250)


def test_data_larger_than_the_free_memory_are_refused(monkeypatch):
    assert (free := free_memory()) is None or free > 2**20
    monkeypatch.setattr(sizes, "free_memory", lambda: 10**9)
    refuse_too_large("x", 1000, 10**5)
    with pytest.raises(ValueError, match=r"batch_size: x has 10,000 rows, 1.0 GB in memory, of which 1.0 GB are free"):
        refuse_too_large("x", 10_000, 10**5)


def test_what_has_rows_in_memory():
    assert [rows_in(v) for v in ([1, 2], (1,), np.ones((3, 2)), np.ones(()), 3, None, "ab")] == [2, 1, 3, *[None] * 4]
