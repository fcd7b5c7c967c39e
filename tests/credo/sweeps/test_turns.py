"""Which setting is a worker's: the number of its task, or what nobody has begun, then what somebody left."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from credo.sweeps.turns import begun, in_turn, number_of, task_of


def test_the_number_of_a_task_is_that_of_its_scheduler():
    assert task_of({"SLURM_ARRAY_TASK_ID": "3"}) == ("SLURM_ARRAY_TASK_ID", 3)
    assert task_of({"JOB_COMPLETION_INDEX": "0"}) == ("JOB_COMPLETION_INDEX", 0)
    assert task_of({"SGE_TASK_ID": "1"}) == ("SGE_TASK_ID", 0)  # numbered from 1
    for none in ({}, {"SGE_TASK_ID": "undefined"}, {"LSB_JOBINDEX": "0"}, {"SLURM_ARRAY_TASK_ID": ""}):
        assert task_of(none) is None and number_of(None, 4, none) is None
    assert number_of(2, 4, {"SLURM_ARRAY_TASK_ID": "3"}) == 2  # what is asked for comes first
    with pytest.raises(ValueError, match=r"SLURM_ARRAY_TASK_ID: got 9, wanted 0 to 3: the sweep has 4 settings"):
        number_of(None, 4, {"SLURM_ARRAY_TASK_ID": "9"})
    with pytest.raises(ValueError, match=r"index: got -1"):
        number_of(-1, 4, {})


def test_what_another_process_has_at_work_is_left_to_it_and_what_a_dead_one_left_comes_last(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    note = begun(tmp_path, "a")
    mine = json.loads(note.read_text())
    assert (mine["host"], mine["process"]) == (socket.gethostname(), os.getpid())
    assert list(in_turn("abc", tmp_path)) == ["b", "c", "a"]  # of this process: an earlier call that was interrupted
    since = begun(tmp_path, "b")
    stat = Path(f"/proc/{other.pid}/stat")
    ticks = stat.read_text().rpartition(")")[2].split()[19] if stat.exists() else ""
    since.write_text(json.dumps({"host": socket.gethostname(), "process": other.pid, "since": ticks}))
    assert list(in_turn("abc", tmp_path)) == ["c", "a"]
    if ticks:  # the same number, another process
        since.write_text(json.dumps({"host": socket.gethostname(), "process": other.pid, "since": "1"}))
        assert list(in_turn("abc", tmp_path)) == ["c", "a", "b"]
    other.kill()
    other.communicate()
    for left in ({"host": socket.gethostname(), "process": other.pid, "since": ticks}, {"host": "another"}, {}):
        since.write_text(json.dumps(left))
        assert list(in_turn("abc", tmp_path)) == ["c", "a", "b"]
    since.write_text("{half")
    assert list(in_turn("abc", tmp_path)) == ["c", "a", "b"]
