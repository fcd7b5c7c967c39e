"""Work by counting operators, numbers and floating point operations."""

import pytest
import torch

from credo.inference.pair.work import work


def test_work_is_counted_alike_in_two_runs_and_grows_with_the_sizes():
    def program(n):
        x, w = torch.ones(n, n), torch.ones(n, n)
        return lambda: (x @ w).tanh().sum()

    assert work(program(10)) == work(program(10))
    small, large = work(program(10)), work(program(1000))
    flops, numbers = 2 * (1000**3 - 10**3), 2 * (1000**2 - 10**2)
    assert large.eager - small.eager == pytest.approx(2e-5 * flops + 4e-4 * numbers)
    assert large.replayed - small.replayed == pytest.approx(2e-5 * flops + 4e-4 * numbers)
    assert small.eager - small.replayed == pytest.approx(9 * 3)  # operators: their Python falls away
    assert work(lambda: None) == (0, 0.0)


def test_what_is_made_once_does_not_count():
    kept = []

    def program():
        if not kept:
            kept.append(torch.ones(100) @ torch.ones(100))
        return kept[0] + 1

    found = work(program)
    assert found == (1, 0.0004)  # one operator that writes one number
    assert (found.eager, found.replayed) == (10 + 0.0004, 1 + 0.0004)
