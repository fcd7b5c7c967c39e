"""A captured step as machine code: compiled beside the run, kept on disk, replayed by a loop over steps.

The folder is $CREDO_CACHE, or `credo` in the user's cache folder. A library there is named by what it was made from:
the graph, its inputs, the update, the number of threads, the versions of torch and credo, the processor. It is opened
only if its checksum is right; anything else there is passed over.
"""

import atexit
import hashlib
import os
import pickle
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from .aot import CompileJob

Loop = Callable[[list[torch.Tensor], int, int], list[float]]  # of the inputs, how many are stacked, and steps


KEPT = 200  # libraries


_SOURCES = (Path(__file__).with_name("aot.py"), Path(__file__).with_name("loop.cpp"))


class Compiling(NamedTuple):
    """A compiler at work in a process of its own."""

    job: CompileJob
    process: subprocess.Popen
    folder: Path  # where it works; called `target(job)` when it is done


_at_work: list[Compiling] = []  # of this process, at most one: compilers are nobody's run's


_at_exit: list[object] = []


def cache() -> Path:
    given = os.environ.get("CREDO_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "credo"


def target(job: CompileJob) -> Path:
    """Where the library of this job is, or would be."""
    digest = hashlib.sha256(f"{job}\n{_processor()}".encode())
    return cache() / f"{_made_by()}-{digest.hexdigest()[:32]}"


def begin_compiling(job: CompileJob) -> Compiling | str | None:
    """A compiler at work on the job; None if another is at work, one at a time; or why there can be none."""
    if not _compiler():
        return "no C++ compiler here"
    _at_work[:] = [made for made in _at_work if made.process.poll() is None]
    if _at_work:
        return _at_work[0] if target(_at_work[0].job) == target(job) else None
    try:
        cache().mkdir(parents=True, exist_ok=True)
        _tidy()
        folder = Path(tempfile.mkdtemp(prefix="making.", dir=cache()))
        (folder / "job").write_bytes(pickle.dumps(tuple(job)))
        command = [sys.executable, "-P", str(_SOURCES[0]), *map(str, (folder, _loop(), target(job)))]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
    except OSError as error:
        return f"the folder for compiled steps cannot be written ({error})"
    made = Compiling(job, process, folder)
    if not _at_exit:
        _at_exit.append(atexit.register(_stop, os.getpid()))
    _at_work.append(made)
    return made


def failure(made: Compiling) -> str | None:
    """Of a compiler that has stopped: why there is no library, or None."""
    if made.process.returncode == 0:
        return None
    log = made.folder / "log"
    last = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    shutil.rmtree(made.folder, ignore_errors=True)
    return f"the compiler failed ({last[-1][:200] if last else 'without a word'})"


def _stop(process: int) -> None:
    """At the exit of the process that began them: ends compilers that are at work, and removes what they left."""
    for made in _at_work if os.getpid() == process else ():
        if made.process.poll() is None:
            made.process.terminate()
            made.process.wait()
            shutil.rmtree(made.folder, ignore_errors=True)


def _tidy() -> None:
    """Keeps the newest libraries; removes what a compiler left that was killed more than a day ago."""
    for old in sorted(cache().glob("*-*"), key=lambda f: f.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    for left in cache().glob("making.*"):
        if time.time() - left.stat().st_mtime > 86_400:
            shutil.rmtree(left, ignore_errors=True)


def open_library(job: CompileJob) -> Loop | None:
    """The loop over the steps of a job that was compiled at some time; None if there is none that can be trusted."""
    folder = target(job)
    library = folder / "step.so"
    try:
        if (folder / "sha256").read_text() != _checksum(library):
            return None
        if not hasattr(torch.ops.credo, "steps"):  # a process can register it once
            torch.ops.load_library(str(_loop()))
        pointer = torch.ops.credo.open_step(str(library))
    except (OSError, RuntimeError):
        return None

    def steps(inputs: list[torch.Tensor], each: int, count: int) -> list[float]:
        losses: list[float] = torch.ops.credo.steps(pointer, inputs, each, count).tolist()
        return losses

    return steps


def _loop() -> Path:
    return cache() / f"loop-{_made_by()}.so"


def _made_by() -> str:
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in _SOURCES))
    return f"{torch.__version__}-{digest.hexdigest()[:12]}"


def _processor() -> str:
    """What machine code is made for."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {flags}"


def _compiler() -> bool:
    return shutil.which(os.environ.get("CXX", "g++")) is not None or shutil.which("clang++") is not None


def _checksum(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()
