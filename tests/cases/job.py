"""Several processes as torchrun starts them, without its costs: forks of this one, with its environment."""

import os
import pickle
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def in_job(function: Callable[[int], Any], size: int = 2, seconds: float = 60.0) -> list[Any]:
    """What `function(rank)` returned in each of `size` processes that are one job; an exception is returned too.

    A process that is killed, or has not ended after so many seconds, returns None.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        results = [Path(folder) / str(rank) for rank in range(size)]
        children = []
        for rank, result in enumerate(results):
            if child := os.fork():
                children.append(child)
                continue
            with suppress(BaseException):
                _worker(function, rank, size, port, result)
            os._exit(0)
        end = time.monotonic() + seconds
        running = set(children)
        while running and time.monotonic() < end:
            running = {child for child in running if os.waitpid(child, os.WNOHANG)[0] == 0}
            time.sleep(0.01)
        for child in running:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        return [pickle.loads(result.read_bytes()) if result.exists() else None for result in results]


def _worker(function: Callable[[int], Any], rank: int, size: int, port: int, result: Path) -> None:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"}
    here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ.update({name: str(value) for name, value in {**place, **here}.items()})
    try:
        found = function(rank)
    except BaseException as error:
        traceback.print_exc()
        found = error
    try:
        content = pickle.dumps(found)
    except Exception:
        content = pickle.dumps(RuntimeError(repr(found)))
    part = result.with_suffix(".part")
    part.write_bytes(content)
    part.rename(result)
