"""What each process takes of a step: the parts of a batch are all of it, and one process takes everything."""

from credo.inference.pair.batches import Rows
from credo.inference.runtime.workers import Workers
from credo.inference.stepping.shares import part_of, share_of, shuffled


def test_the_parts_of_a_batch_are_the_batch():
    parts = []
    for rank in range(3):
        workers = Workers(rank, 3, rank)
        first, of = share_of(workers)
        assert part_of(workers, 10) == len(range(first, 10, of))
        parts += range(first, 10, of)
    assert sorted(parts) == list(range(10))


def test_one_process_takes_whole_batches():
    assert share_of(None) == (0, 1) and part_of(None, 10) == 10 and shuffled(None, None) is None
    batches = shuffled(Rows((0,), 6, 3, frozenset()), None)
    assert sorted([*next(batches).tolist(), *next(batches).tolist()]) == list(range(6))
