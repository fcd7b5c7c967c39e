"""Which rows are in which window: all of them once, equally many for each process."""

from collections import Counter

import pytest

from credo.inference.streaming.order import Piece, cut, rows_of_epoch, seed_of

LENGTHS = [7, 3, 12, 5, 9, 1, 8]
STARTS = [sum(LENGTHS[:k]) for k in range(len(LENGTHS))]


def rows(pieces):
    return [STARTS[p.chunk] + row for p in pieces for row in p.rows]


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("of", [1, 2, 3])
def test_each_process_has_its_own_rows_and_as_many(in_order, of):
    for epoch in range(3):
        parts = [rows(rows_of_epoch(LENGTHS, 1, epoch, (rank, of), 1000, in_order)) for rank in range(of)]
        assert {len(part) for part in parts} == {sum(LENGTHS) // of}
        assert max(Counter(row for part in parts for row in part).values()) == 1


def test_rows_that_fill_no_window_are_others_in_each_epoch():
    left_out = Counter()
    for epoch in range(300):
        seen = rows(rows_of_epoch(LENGTHS, 0, epoch, (0, 1), 40, True))
        assert seen == sorted(seen) and len(seen) == 40
        left_out.update(set(range(45)) - set(seen))
    assert len(left_out) == 45  # no row is left out for ever


def test_rows_are_cut_by_their_number():
    pieces = [Piece(0, range(0, 10, 2)), Piece(1, range(3))]
    assert cut(pieces, 4, 6) == [Piece(0, range(8, 10, 2)), Piece(1, range(1))]
    assert cut(pieces, 0, 100) == pieces and cut(pieces, 8, 9) == []


def test_seeds_differ_by_each_number():
    seeds = {seed_of(a, b) for a in range(20) for b in range(20)}
    assert len(seeds) == 400
