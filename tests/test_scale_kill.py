"""benchmarks/scale.py, part "kill": a job whose processes die ends with the losses of one that nobody disturbed."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import _scale_kill


@pytest.mark.slow
def test_a_job_whose_processes_are_killed_ends_as_one_that_nobody_disturbed(capsys):
    _scale_kill.kill(2, only=("shared noise",))
    said = capsys.readouterr().out
    assert "kill: shared noise: 2 kills" in said and "the same to the bit" in said
