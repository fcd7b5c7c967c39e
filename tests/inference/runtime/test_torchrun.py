"""Joining the processes that torchrun started: what the environment says, and what is refused."""

import functools
import os
import time

import pytest
import torch
import torch.distributed as dist

from credo.inference.runtime.torchrun import PATIENCE, is_started, joined, local_rank, restarts
from tests.cases.job import in_job

JOB = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in (*JOB, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def started(monkeypatch, **more):
    for name, value in {**JOB, **more}.items():
        monkeypatch.setenv(name, value)


def test_a_program_of_its_own_is_no_job():
    assert not is_started() and not joined() and not dist.is_initialized()
    assert (local_rank(), restarts()) == (0, 0)


def test_one_process_has_nothing_to_join(monkeypatch):
    started(monkeypatch, RANK="0", WORLD_SIZE="1")
    assert is_started() and not joined() and not dist.is_initialized()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"RANK": "2"}, "RANK: got 2 of WORLD_SIZE 2"), ({"WORLD_SIZE": "two"}, "WORLD_SIZE: got 'two'")],
)
def test_an_environment_that_cannot_be_right_is_refused(monkeypatch, wrong, said):
    started(monkeypatch, **wrong)
    with pytest.raises(ValueError, match=said):
        joined()


def test_a_job_whose_others_do_not_come_is_an_error_that_says_where(monkeypatch):
    started(monkeypatch, WORLD_SIZE="3")
    monkeypatch.setattr("credo.inference.runtime.torchrun.PATIENCE", PATIENCE / 2000)
    with pytest.raises(
        ConnectionError, match=r"rank 1 of 3 could not join the others at 127.0.0.1:1 .*in each process"
    ):
        joined()


def test_processes_join_once_and_a_group_of_the_users_is_kept():
    def work(rank):
        if rank == 1:  # as a program that makes its group itself
            dist.init_process_group("gloo")
        before = dist.group.WORLD
        assert joined() and joined()
        assert rank == 0 or dist.group.WORLD is before
        sums = torch.ones(3)
        dist.all_reduce(sums)
        return dist.get_rank(), dist.get_world_size(), sums.tolist()

    assert in_job(work) == [(rank, 2, [2.0] * 3) for rank in range(2)]
    assert not dist.is_initialized() and "RANK" not in os.environ


def test_processes_that_start_anew_do_not_connect_to_those_that_died():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # of torchrun, over all restarts

    def work(rank, start, late):
        os.environ.update({"TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_PORT": str(store.port)})
        time.sleep(rank == late)  # so that the other one comes upon what is left of the earlier start
        assert joined()
        sums = torch.ones(3)
        dist.all_reduce(sums)
        if start < 2:
            os._exit(1)  # as if killed: it leaves its address in the store
        return sums.tolist()

    for start, late in enumerate((0, 0, 1)):
        found = in_job(functools.partial(work, start=start, late=late), seconds=30.0)
    assert found == [[2.0] * 3] * 2
