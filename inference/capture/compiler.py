"""Compiled steps on disk: starts the compiler (`aot`) in a process of its own and opens the libraries that it made.

The name of a library is a hash of its ingredients: the graph, its inputs, the update, the number of threads, the
version of torch, the sources of the compiler and the processor. `cache` says where libraries are kept and which of
them may be opened.
"""

import atexit
import ctypes
import hashlib
import os
import pickle
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .aot import MARK, CompileJob
from .cache import MAKING, OF_TORCH, UnsafeFolder, cache_folder, is_sound, made_safe, tidy

Rates = tuple[torch.Tensor, list[float]]  # (the clock among the tensors of `CompiledInputs`, the rate of each step)
# (all these tensors, how many of the first are stacked over steps, the number of steps[, scheduled rates]) -> losses
Loop = Callable[..., list[float]]
# The program first, then what it loads.
_SOURCES = tuple(
    Path(__file__).with_name(name) for name in ("aot.py", "rules.py", "build.py", "plain_graph.py", "loop.cpp")
)
MESSAGE = 1000  # bytes of a message from compiled code, at most


class LoopFailed(RuntimeError):
    """A compiled step failed. losses: of the steps before it, which have been taken."""

    def __init__(self, said: str, losses: list[float]) -> None:
        super().__init__(said)
        self.losses = losses


class Compiling(NamedTuple):
    """A compiler running in a process of its own."""

    job: CompileJob
    process: subprocess.Popen
    folder: Path  # where it works; renamed to `library_folder(job)` when it is done


_running: list[Compiling] = []  # at most one in this process, whichever run started it
_at_exit: list[object] = []


def library_folder(job: CompileJob) -> Path:
    """The folder that holds the library of this job once it is compiled."""
    digest = hashlib.sha256(f"{job}\n{_processor()}".encode())
    return cache_folder() / f"{_version()}-{digest.hexdigest()[:32]}"


def begin_compiling(job: CompileJob) -> Compiling | str | None:
    """Starts a compiler on the job, one at a time: None if another job's is running; a str says why none can start."""
    if not has_compiler():
        return "no C++ compiler here"
    _running[:] = [compiling for compiling in _running if compiling.process.poll() is None]
    if _running:
        return _running[0] if library_folder(_running[0].job) == library_folder(job) else None
    folder = None
    try:
        made_safe(cache_folder())
        tidy(cache_folder())
        folder = Path(tempfile.mkdtemp(prefix=MAKING, dir=cache_folder()))
        for own in (folder, cache_folder() / OF_TORCH):
            own.mkdir(exist_ok=True)
            (own / MARK).touch()
        (folder / "job").write_bytes(pickle.dumps(tuple(job)))
        paths = (folder, library_folder(job))
        command = [sys.executable, "-P", str(_SOURCES[0]), *map(str, paths), str(os.getpid())]
        with open(folder / "log", "wb") as log:
            options: dict[str, Any] = {
                "stdout": log,
                "stderr": log,
                "stdin": subprocess.DEVNULL,
                "env": _environment(folder),
            }
            process = subprocess.Popen(command, start_new_session=True, **options)
    except UnsafeFolder as error:
        return str(error)
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return f"the folder for compiled steps cannot be written ({error})"
    compiling = Compiling(job, process, folder)
    if not _at_exit:
        _at_exit.append(atexit.register(_stop, os.getpid()))
    _running.append(compiling)
    return compiling


def failure(compiling: Compiling) -> str | None:
    """Why a compiler that has stopped left no library, by its last line; None if it succeeded."""
    if compiling.process.returncode == 0:
        return None
    log = compiling.folder / "log"
    last = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    shutil.rmtree(compiling.folder, ignore_errors=True)
    return f"the compiler failed ({last[-1][:200] if last else 'it gave no message'})"


def _stop(process: int) -> None:
    """Ends the running compiler and removes its folder, at the exit of the process that started it."""
    for compiling in _running if os.getpid() == process else ():
        if compiling.process.poll() is None:
            if hasattr(os, "killpg"):  # with g++, which it has started
                os.killpg(compiling.process.pid, signal.SIGTERM)
            compiling.process.terminate()
            compiling.process.wait()
        if compiling.process.returncode:
            shutil.rmtree(compiling.folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    """The compiler's environment: torch keeps what it writes in the cache, g++ its temporary files in this folder."""
    of_torch = str(cache_folder() / OF_TORCH)
    without = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    # Without TMPDIR, Python asks TEMP before TMP, and g++ asks TMP before TEMP.
    return {**without, "TORCHINDUCTOR_CACHE_DIR": of_torch, "TEMP": of_torch, "TMP": str(folder)}


def open_library(job: CompileJob) -> Loop | None:
    """The loop over steps of a job that was compiled before; None if there is no library with the right checksum.

    Raises UnsafeFolder if there is one, but somebody else may have written it.
    """
    library = library_folder(job) / "step.so"
    if not is_sound(library):
        return None
    try:
        return opened(library)
    except (OSError, AttributeError):
        return None


def opened(library: Path) -> Loop:
    """The loop in a library, see loop.cpp. Raises OSError if it cannot be opened, AttributeError without a loop."""
    run = ctypes.CDLL(str(library)).credo_steps
    run.restype = ctypes.c_int64
    text, number, place = ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p
    run.argtypes = [place, number, number, place, text, number, place, place]

    def steps(inputs: list[torch.Tensor], stacked: int, count: int, rates: Rates | None = None) -> list[float]:
        # Arrays, since ctypes makes a class for each number of entries, which takes as long as a few steps.
        places = array("Q", [t._cdata for t in inputs])  # `inputs` keeps the tensors alive
        losses, message = array("d", bytes(8 * count)), ctypes.create_string_buffer(MESSAGE)
        each = None if rates is None else array("d", rates[1])
        scheduled = (None, None) if rates is None or each is None else (rates[0].data_ptr(), each.buffer_info()[0])
        taken = run(places.buffer_info()[0], stacked, count, losses.buffer_info()[0], message, MESSAGE, *scheduled)
        if taken < 0:
            raise LoopFailed(message.value.decode(errors="replace"), losses[: -1 - taken].tolist())
        return losses[:taken].tolist()

    return steps


def _version() -> str:
    """Of torch and of the compiler's sources: a change of either compiles anew."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in _SOURCES))
    return f"{torch.__version__}-{digest.hexdigest()[:12]}"


def _processor() -> str:
    """The processor that a library is compiled for."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {flags}"


def has_compiler() -> bool:
    """Whether this computer has a C++ compiler."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None or shutil.which("clang++") is not None
