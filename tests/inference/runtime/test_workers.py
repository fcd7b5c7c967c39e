"""What the processes of a run tell one another."""

import time
from datetime import timedelta

import pytest
import torch

from credo.inference.runtime.workers import (
    GROUP,
    ProcessFailed,
    Workers,
    agreed,
    alone,
    averaged,
    everywhere,
    gathered,
    greatest,
    seed_of,
    sent_from_first,
    workers,
)
from tests.cases.job import in_job


def test_one_process_has_nobody_to_ask():
    assert workers() is None
    assert agreed(None, lambda: 3) == everywhere(None, lambda: 3) == 3
    assert gathered(None, "a") == ["a"] and greatest(None, [1, 2]) == [1, 2] and seed_of(None, 7) == 7
    one = torch.ones(2)
    assert averaged(None, [one])[0] is one


def test_each_process_has_a_seed_of_its_own():
    seeds = {seed_of(Workers(rank, 8, 0), seed) for rank in range(8) for seed in range(8)}
    assert len(seeds) == 64 and seed_of(Workers(0, 8, 0), 5) == 5


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__("odd")


def fails(error):
    raise error


def caught(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__, str(error)


def test_processes_tell_one_another():
    def work(rank):
        me = workers()
        loss, gradient = torch.tensor(1.0 + rank, dtype=torch.float64), torch.full((2, 2), 4.0 * rank)
        means = averaged(me, [loss, gradient])
        values = torch.full((2, 3), float(rank)).T  # not contiguous
        sent_from_first(me, [values])
        return [
            me,
            agreed(me, lambda: rank + 10),
            gathered(me, rank),
            greatest(me, [rank, -rank]),
            [(t.dtype, t.tolist()) for t in means],
            values.tolist(),
            caught(lambda: agreed(me, lambda: fails(ValueError("no plan")))),
            caught(lambda: agreed(me, lambda: fails(Odd(1, 2)))),
            caught(lambda: agreed(me, lambda: lambda: 1)),
            caught(lambda: everywhere(me, lambda: 1 / (1 - rank))),
            everywhere(me, lambda: rank),
        ]

    for rank, found in enumerate(in_job(work)):
        me, first, ranks, largest, means, values, error, odd, unsent, other, own = found
        assert me == Workers(rank, 2, rank, compiles=rank == 0) and own == rank
        assert first == 10 and ranks == [0, 1] and largest == [1, 0]
        assert means == [(torch.float64, 1.5), (torch.float32, [[2.0, 2.0], [2.0, 2.0]])]
        assert values == [[0.0] * 2] * 3
        assert error == ("ValueError", "no plan")
        assert odd[1] in ("odd", "Odd: odd") and "pickle" in unsent[1]
        assert other == (
            ("ZeroDivisionError", "division by zero")
            if rank == 1
            else ("ProcessFailed", "process 1 of 2 ended with ZeroDivisionError: division by zero")
        )


def test_a_process_that_is_gone_is_an_error():
    def work(rank):
        me = workers()
        if rank == 1:
            return None
        with pytest.raises(ProcessFailed, match="another process of the run has ended"):
            for _ in range(3):
                gathered(me, rank)
        return "told"

    assert in_job(work)[0] == "told"


@pytest.mark.slow
def test_others_wait_for_one_that_computes_longer_than_a_message_may_take(monkeypatch):
    monkeypatch.setattr("credo.inference.runtime.torchrun.PATIENCE", timedelta(seconds=4))

    def work(rank):
        me = workers()

        def long(first):
            if rank == first:
                time.sleep(6)
            return rank

        return agreed(me, lambda: long(0)), everywhere(me, lambda: long(1)), greatest(me, [long(1)])

    assert in_job(work) == [(0, 0, [1]), (0, 1, [1])]


def test_a_process_finds_itself_alone_as_often_as_it_asks():
    def work(rank):
        job, sums = workers(), []
        for _ in range(3):  # a graph is compared with its compiled code more than once
            with alone(job):
                sums.append(summed_by_name(rank + 1.0))
        return [*sums, summed_by_name(rank + 1.0)]

    def summed_by_name(number):  # as compiled code does
        total = torch.ops._c10d_functional.all_reduce(torch.tensor([number]), "sum", GROUP)
        return torch.ops._c10d_functional.wait_tensor(total).item()

    assert in_job(work) == [[rank + 1.0] * 3 + [3.0] for rank in range(2)]
