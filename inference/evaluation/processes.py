"""Calls of a function in forked processes, a few at a time, whose results come back to the process that asked.

A forked process has all that this one has, functions of a notebook and networks too. What comes back is a pickle in
which functions, classes and networks that both have are named by their identity, so that lambdas and closures are the
same objects again. Where processes cannot be forked safely (other systems than Linux, an accelerator whose threads
autograd has started, a thread other than the main one) there are none.
"""

import gc
import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from ..runtime.defaults import accelerator
from ..runtime.interrupts import interruptible
from ..runtime.torchrun import joined

T = TypeVar("T")
# What keeps its identity. Asked by `type`: `isinstance` wakes up what poses as another class.
SHARED = (FunctionType, BuiltinFunctionType, MethodType, ModuleType, type, nn.Module)
POLL = 0.2  # seconds between two looks for Ctrl-C


class Failed(NamedTuple):
    """A call without a result: why, and whether to make it again in this process, since only its result was lost."""

    words: str
    again: bool


def cores() -> int:
    """How many calls can run at a time, in processes of their own; 1 where none can be forked."""
    here = sys.platform == "linux" and threading.current_thread() is threading.main_thread()
    if not here or accelerator() is not None or multiprocessing.current_process().daemon or joined():
        return 1
    return len(os.sched_getaffinity(0))


def in_processes(function: Callable[[int], T], items: Sequence[int]) -> dict[int, T | Failed]:
    """{item: what `function` returned for it}, in the order of the items; `Failed` where there is no result.

    Each process computes in one thread. Ctrl-C is passed on to the calls, which end as they do of their own.
    """
    known = {id(thing): thing for thing in gc.get_objects() if issubclass(type(thing), SHARED)}
    context = multiprocessing.get_context("fork")
    left, running = list(items), dict[Connection, tuple[int, Any]]()
    found: dict[int, T | Failed] = {}
    with interruptible() as ctrl_c:
        heard = 0
        try:
            while left or running:
                while left and len(running) < cores() and not ctrl_c.presses:
                    ours, theirs = context.Pipe(duplex=False)
                    process = context.Process(target=_call, args=(function, left[0], theirs, known))
                    with warnings.catch_warnings():
                        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)  # of Python 3.12, of threads
                        process.start()
                    theirs.close()
                    running[ours] = left.pop(0), process
                for ready in wait(list(running), timeout=POLL):
                    assert isinstance(ready, Connection)
                    item, process = running.pop(ready)
                    found[item] = _received(ready, process, known)
                if ctrl_c.presses > heard:
                    heard, left = ctrl_c.presses, []
                    for _, process in running.values():
                        os.kill(process.pid, signal.SIGINT)
        finally:
            for _, process in running.values():
                process.kill()
    return {item: found[item] for item in items if item in found}


def _call(function: Callable[[int], Any], item: int, to: Connection, known: dict[int, Any]) -> None:
    """What a process does: its result, pickled, goes to the other end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)  # the threads of the parent are not in this process
    try:
        result: Any = function(item)
    except (Exception, KeyboardInterrupt) as error:
        result = Failed(f"{type(error).__name__}: {error}", again=False)
    try:
        sent = _dumped(result, known)
    except Exception as error:
        sent = _dumped(Failed(f"{type(error).__name__}: {error}", again=True), known)
    to.send_bytes(sent)
    to.close()


def _received(connection: Connection, process: Any, known: dict[int, Any]) -> Any:
    try:
        return _Unpickler(io.BytesIO(connection.recv_bytes()), known).load()
    except EOFError:
        process.join()
        return Failed(f"its process ended without a result (exit code {process.exitcode})", again=False)
    finally:
        connection.close()
        process.join()


def _dumped(value: Any, known: dict[int, Any]) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, known).dump(value)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, known: dict[int, Any]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.known = known

    def persistent_id(self, value: Any) -> int | None:
        shared = issubclass(type(value), SHARED) and self.known.get(id(value)) is value
        return id(value) if shared else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, known: dict[int, Any]) -> None:
        super().__init__(file)
        self.known = known

    def persistent_load(self, name: int) -> Any:
        return self.known[name]
