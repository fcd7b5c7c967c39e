"""Deadlines and prices, beside work whose time is known."""

import time

import pytest
import torch

from credo.inference.importance.budget import OutOfTime, clock, deadline, price

CPU = torch.device("cpu")


def busy(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_the_clock_counts_work_and_no_waiting():
    begun = clock(CPU)
    time.sleep(0.05)
    assert clock(CPU) - begun < 0.04
    busy(0.02)
    assert clock(CPU) - begun >= 0.02


def test_work_is_not_begun_that_would_end_after_the_deadline():
    by = deadline(0.2, CPU)
    by.check(0.01)
    with pytest.raises(OutOfTime):
        by.check(0.3)
    busy(0.21)
    assert by.left < 0
    with pytest.raises(OutOfTime):
        by.check()


@pytest.mark.parametrize(("call", "each"), [(0.0, 1e-3), (4e-3, 1e-5)])
def test_the_price_of_one_is_told_from_that_of_a_call_and_takes_little_of_the_time(call, each):
    calls = []

    def run(n):
        calls.append(n)
        busy(call + n * each)

    by = deadline(2.0, CPU)
    found = price(run, 256, by)
    assert each <= found <= max(1.3 * each, 1.3 * (each + call / 200)) and by.left > 1.6
    assert max(calls) == (256 if call else 64)


def test_a_dear_run_is_made_twice_at_most():
    calls = []
    price(lambda n: (calls.append(n), busy(0.02)), 1000, deadline(0.3, CPU))
    assert calls == [1, 1]


def test_a_clock_that_stands_still_gives_a_price_too(monkeypatch):
    """As where CPU time comes in ticks of 4 ms or more."""
    by = deadline(100.0, CPU)
    monkeypatch.setattr("credo.inference.importance.budget.clock", lambda device: 0.0)
    assert 0 < price(lambda n: None, 64, by) < 1e-6
