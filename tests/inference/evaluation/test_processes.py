"""Calls in forked processes: the same objects come back, and a process that dies is no crash."""

import os
import signal
import threading
import time

import pytest
import torch

from credo.inference.evaluation.processes import Failed, cores, in_processes

pytestmark = pytest.mark.skipif(cores() == 1, reason="processes cannot be forked, or there is one core")


def test_results_come_back_in_the_order_asked_for_with_the_objects_that_both_have():
    net, here = torch.nn.Linear(2, 2), lambda: 3

    def slow_first(k):
        time.sleep(0.05 * (3 - k))
        return k, here, net, torch.nn.Linear, torch.full((2,), float(k)), os.getpid(), torch.get_num_threads()

    found = in_processes(slow_first, [1, 3, 2])
    assert list(found) == [1, 3, 2]
    for k, (item, function, module, kind, tensor, process, threads) in found.items():
        assert (item, function, module, kind, threads) == (k, here, net, torch.nn.Linear, 1)
        assert torch.equal(tensor, torch.full((2,), float(k))) and process != os.getpid()


def test_what_has_no_result_is_said_and_the_others_have_theirs():
    def call(k):
        if k == 0:
            os._exit(9)
        if k == 1:
            return lambda: k  # made there: this process does not have it
        if k == 2:
            raise KeyError("mine")
        return k

    found = in_processes(call, range(4))
    died, local, raised, right = found.values()
    assert died == Failed("its process ended without a result (exit code 9)", again=False)
    assert local.again and "pickle" in local.words
    assert raised == Failed("KeyError: 'mine'", again=False) and right == 3


def test_ctrl_c_reaches_the_processes_and_starts_no_more():
    def call(k):
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            return f"interrupted {k}"
        return "slept"

    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    found = in_processes(call, range(50))
    assert time.monotonic() - begun < 25
    assert list(found.values()) == [f"interrupted {k}" for k in range(len(found))] and len(found) <= cores()


def test_other_threads_fork_no_process():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(cores()))
    thread.start()
    thread.join()
    assert seen == [1]
