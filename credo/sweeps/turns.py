"""Which setting is a worker's: the one with the number of its task, or the next that nobody has begun.

A worker that has begun a setting leaves a note beside its place. Another one takes such a setting last, if its worker
is gone; a note is no lock, and a setting that two workers take is computed twice, with the same result.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from credo.inference.inputs.arguments import whole_number

# What schedulers call the number of a task of an array, and the first number where it is not the user's to choose.
TASKS = {
    "SLURM_ARRAY_TASK_ID": 0,
    "JOB_COMPLETION_INDEX": 0,  # Kubernetes
    "PBS_ARRAY_INDEX": 0,
    "AWS_BATCH_JOB_ARRAY_INDEX": 0,
    "SGE_TASK_ID": 1,
    "LSB_JOBINDEX": 1,
}


def task_of(environment: Mapping[str, str]) -> tuple[str, int] | None:
    """(the variable, the number of the task from 0) of the scheduler that started this process as one of an array."""
    for name, first in TASKS.items():
        if environment.get(name, "").isdecimal() and int(environment[name]) >= first:
            return name, int(environment[name]) - first
    return None


def number_of(index: Any, settings: int, environment: Mapping[str, str]) -> int | None:
    """The number of the only setting that is asked for; None for all. Raises ValueError for one that there is not."""
    what, number = "index", index
    if index is None:
        task = task_of(environment)
        if task is None:
            return None
        what, number = task
    number = whole_number(what, number, 0)
    if number >= settings:
        raise ValueError(
            f"{what}: got {number}, wanted 0 to {settings - 1}: the sweep has {settings:,} settings, numbered from 0"
        )
    return number


def in_turn(names: Sequence[str], place: Path) -> Iterator[str]:
    """The names of settings: those that nobody has begun, then those whose worker is gone.

    What another process of this machine has at work is left to it.
    """
    later = []
    for name in names:
        if _note(place, name).exists():
            later.append(name)
        else:
            yield name
    for name in later:
        if not _alive(_note(place, name)):
            yield name


def begun(place: Path, name: str) -> Path:
    """Leaves the note that this process has begun a setting; returns its path, to delete it at the end."""
    note = _note(place, name)
    left = {"host": socket.gethostname(), "process": os.getpid(), "since": _since(os.getpid())}
    note.write_text(json.dumps(left), encoding="utf-8")
    return note


def _note(place: Path, name: str) -> Path:
    return place / f"{name}.begun"


def _alive(note: Path) -> bool:
    """Whether the worker that left the note is another process of this machine, and runs."""
    try:
        left = json.loads(note.read_text(encoding="utf-8"))
        if left["host"] != socket.gethostname() or left["process"] == os.getpid():
            return False
        os.kill(int(left["process"]), 0)
    except PermissionError:  # of another user
        return True
    except (OSError, ValueError, KeyError, TypeError):  # gone, or half written
        return False
    return left.get("since") == _since(int(left["process"]))


def _since(process: int) -> str:
    """When a process began, in ticks since the start of Linux, since numbers of processes are used again; else ""."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
