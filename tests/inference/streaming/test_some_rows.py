"""The rows that checks look at hold every kind of row that is a mistake by itself."""

import pytest
import torch

from credo.inference.pair.batches import cut
from credo.inference.streaming.some_rows import MANY, RANDOM, some_rows, telling_rows

N = 30_011
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))


def spoilt(values, row, value):
    values = values.clone()
    values[row] = value
    return values


COUNTS = torch.arange(N, dtype=torch.float32) % 7
SHARES = torch.softmax(X, 1)
ROW = 17_321
CASES = {
    "a label of no class": (X, spoilt(torch.arange(N) % 5, ROW, 5)),
    "a count of -1": (X, spoilt(COUNTS, ROW, -1.0)),
    "a count of 2.5": (X, spoilt(COUNTS, ROW, 2.5)),
    "NaN": (spoilt(X, (ROW, 1), torch.nan), COUNTS),
    "infinity": (X, spoilt(COUNTS, ROW, torch.inf)),
    "shares that do not add up to one": (spoilt(SHARES, (ROW, 0), 0.0), COUNTS),
    "one column of the data": (spoilt(X, (ROW, 2), -9.0), COUNTS),
    "the one success": (torch.zeros(N, dtype=torch.bool).index_fill(0, torch.tensor([ROW]), True),),
    "more successes than trials": (spoilt(torch.full((N,), 3.0), ROW, 4.0), torch.full((N,), 3.0)),
    "a wide argument": (spoilt(torch.zeros(N, 70), (ROW, 69), 2.0),),
}


@pytest.mark.parametrize("case", CASES)
def test_the_row_that_is_a_mistake_is_among_them(case):
    data = CASES[case]
    positions = tuple(range(len(data)))
    assert ROW in telling_rows(data, positions)
    index = some_rows(data, positions, 100)
    assert ROW in index and RANDOM <= len(index) < RANDOM + 100
    assert torch.equal(index, index.unique())
    for given, some in zip(data, cut(data, positions, index), strict=True):
        assert torch.equal(some.nan_to_num(), given[index].nan_to_num())


def test_more_successes_than_trials_where_neither_is_an_extreme():
    trials = torch.randint(5, 9, (N,), generator=torch.Generator().manual_seed(1)).float()
    successes = spoilt((trials - 1).clone(), ROW, 6.0)
    trials[ROW] = 5.0
    assert ROW in telling_rows((successes, trials), (0, 1))


def test_few_rows_and_large_batches_are_looked_at_whole():
    assert some_rows((X[:MANY],), (0,), 10) is None
    assert some_rows((X,), (0,), N // 4 + 1) is None
    assert len(some_rows((X,), (0,), N // 8)) >= 2 * (N // 8)


def test_what_has_no_rows_stays_as_it_is():
    groups = torch.arange(4)
    assert cut((X, groups), (0,), torch.tensor([5]))[1] is groups
    assert len(some_rows((X, groups), (0,), 10)) < MANY


def test_the_run_s_generator_is_left_as_it_was():
    before = torch.get_rng_state()
    some_rows((X,), (0,), 10)
    assert torch.equal(torch.get_rng_state(), before)
