"""What each process takes of a step: the parts of a batch are all of it, and one process takes everything."""

import pytest
import torch

from credo.inference.pair.batches import Rows
from credo.inference.preflight.rows import find_rows
from credo.inference.runtime.state import entered
from credo.inference.runtime.workers import Workers
from credo.inference.stepping.begin import begin
from credo.inference.stepping.settings import checked
from credo.inference.stepping.shares import part_of, rows_of_run, share_of, shuffled
from tests.cases import row_latents


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


@pytest.mark.parametrize("shard", ["rows", "particles"])
def test_tables_of_several_processes_are_refused_by_name(shard):
    y = row_latents.data(60)
    settings = checked(row_latents.model, 0.02, None, 20, None, False, 0, torch.device("cpu"), False)
    begun = begin(row_latents.model, row_latents.guide, settings, (y,))
    with entered(begun.state):
        rows = rows_of_run(settings, lambda size: find_rows(begun.pair, size, ["y"]))
        assert rows is not None and "loc" in rows.tables
        several = settings._replace(workers=Workers(0, 2, 0, shard))
        with pytest.raises(ValueError, match=r"parameter 'loc' has a row for each of the 60 rows.*guide='amortised'"):
            rows_of_run(several, lambda size: find_rows(begun.pair, size, ["y"]))
