"""Slices of rows: they cover all rows once, and a part with random access reads each of them."""

from credo.inference.streaming.part import random_access, uniform


def test_uniform_slices_cover_all_rows_once():
    slices = uniform(10, 4)
    assert [list(range(10))[s] for s in slices] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_random_access_reads_the_slices_in_the_order_asked_for():
    rows = list(range(10))
    stream = random_access(lambda part: (rows[part],))
    assert list(stream([slice(8, 10), slice(0, 2)], None)) == [([8, 9],), ([0, 1],)]
