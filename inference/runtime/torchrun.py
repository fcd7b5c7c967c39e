"""The processes that torch's `torchrun` starts join one group, with which torch.distributed talks.

    torchrun --nproc-per-node=4 train.py        RANK=0..3, WORLD_SIZE=4, MASTER_ADDR, MASTER_PORT in the environment

A program that makes its group itself (torch.distributed.init_process_group), in all processes, keeps it. Where the
environment names no rank, or one process is all, there is nothing to join. So too in a process that a worker has forked
or spawned, which has the worker's environment, yet is none of the job.
"""

import atexit
import multiprocessing
import os
import socket
import time
import uuid
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from .traced import first_line

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torchrun sets them, and so do `srun` and MPI by scripts
# How long the others wait in the middle of a step for a process that hangs; between steps one may compute as long as it
# needs, at most LONGEST. One that dies closes its connections, which is seen at once.
PATIENCE = timedelta(minutes=10)
LONGEST = timedelta(days=1)  # that one process may compute between steps: a closed form, a race, a callback


def joined() -> bool:
    """Whether this process is one of several of a job; it joins the group of the job first, if nobody has done so.

    Raises ValueError for an environment that cannot be right, and ConnectionError where the others do not come.
    """
    if not dist.is_available():
        return False
    if dist.is_initialized():
        return dist.get_world_size() > 1
    if not is_started() or multiprocessing.parent_process() is not None:
        return False
    rank, size = (_number(name) for name in ("RANK", "WORLD_SIZE"))
    if size == 1:
        return False
    if not 0 <= rank < size:
        raise ValueError(f"RANK: got {rank} of WORLD_SIZE {size}, wanted 0 to {size - 1}; start the job with torchrun")
    try:
        known: dict[str, Any] = {}
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            known = {"store": _store_of_this_start(rank, size), "rank": rank, "world_size": size}
        dist.init_process_group(_backend(), timeout=PATIENCE, **known)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise ConnectionError(
            f"rank {rank} of {size} could not join the others at {where} ({first_line(error)}); start all "
            f"{size} processes with the same --rdzv-endpoint, let this host reach that address, and make the call in "
            f"each process, not in the first one alone"
        ) from error
    atexit.register(_leave, os.getpid())
    return True


def is_started() -> bool:
    """Whether the environment says that this process is one of a job."""
    return all(os.environ.get(name) for name in NEEDED)


def restarts() -> int:
    """How often torchrun has started the processes of this job anew (--max-restarts)."""
    return _number("TORCHELASTIC_RESTART_COUNT") if os.environ.get("TORCHELASTIC_RESTART_COUNT") else 0


def local_rank() -> int:
    """The number of this process among those of its host, by which it takes its device; 0 outside of a job."""
    return _number("LOCAL_RANK") if os.environ.get("LOCAL_RANK") else 0


def among_those_of_host(rank: int) -> int:
    """The number of this process among those of its host. Each writes its host once: nobody waits in later calls."""
    store = dist.distributed_c10d._get_default_store()
    store.set(f"credo: host of {rank}", socket.gethostname())
    hosts = [store.get(f"credo: host of {other}") for other in range(rank + 1)]
    return hosts[:rank].count(hosts[rank])


def wait_for_first() -> None:
    """Waits until the first process comes, however long it computes. One that has died is seen at once."""
    options = dist.BroadcastOptions()
    options.rootRank, options.rootTensor, options.timeout = 0, 0, LONGEST
    everyone: Any = dist.group.WORLD
    everyone.broadcast([torch.zeros((), device=of_messages())], options).wait()


def wait_for_all(found: torch.Tensor) -> None:
    """The largest of each number over all processes, however long one of them computes before."""
    options: Any = dist.AllreduceOptions()
    options.reduceOp, options.timeout = dist.ReduceOp.MAX, LONGEST
    everyone: Any = dist.group.WORLD
    everyone.allreduce([found], options).wait()


def of_messages() -> str:
    """Where small messages live: on the CPU, unless the group of the user's own knows GPUs only."""
    return "cuda" if dist.get_backend() == "nccl" else "cpu"


def _backend() -> str:
    """gloo between CPUs; NCCL between GPUs where each process has one of its own, which it takes here."""
    if not torch.cuda.is_available():
        return "gloo"
    torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    here = _number("LOCAL_WORLD_SIZE") if os.environ.get("LOCAL_WORLD_SIZE") else 1
    own = here <= torch.cuda.device_count() and dist.is_nccl_available()
    return f"cpu:gloo,cuda:{'nccl' if own else 'gloo'}"


def _store_of_this_start(rank: int, size: int) -> dist.Store:
    """The store of torchrun, under a prefix that only the processes of this start know.

        process k:   writes a new key               waits for the prefix of its key     answers under the prefix
        the first:   sends its own key, as the prefix, to the key of each k             until every k has answered

    torchrun (torch 2.13) keeps one store over all restarts, with the addresses of processes that have died: a new
    process would connect to them. The number of restarts cannot be the prefix, since each host counts its own. A key of
    an earlier start may be read here, and gets a prefix that nobody waits for.
    """
    store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=PATIENCE))
    store.set_timeout(PATIENCE)
    store, own = dist.PrefixStore("credo", store), uuid.uuid4().hex
    if rank:
        store.set(f"key of {rank}", own)
        prefix = store.get(f"prefix of {own}").decode()
        store.set(f"{prefix} reached {rank}", "")
        return dist.PrefixStore(prefix, store)
    missing, end = set(range(1, size)), time.monotonic() + PATIENCE.total_seconds()
    while missing:
        for other in sorted(missing):
            if store.check([f"{own} reached {other}"]):
                missing.discard(other)
            elif store.check([f"key of {other}"]):
                store.set(f"prefix of {store.get(f'key of {other}').decode()}", own)
        if missing and time.monotonic() > end:
            raise RuntimeError(f"process {min(missing)} has not come within {PATIENCE.total_seconds():g} s")
        time.sleep(0.01)
    return dist.PrefixStore(own, store)


def _number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise ValueError(f"{name}: got {os.environ[name]!r}, wanted a whole number; start with torchrun") from None


def _leave(process: int) -> None:
    """Ends the group at the exit of the process that joined it, without a warning of torch's."""
    if os.getpid() == process and dist.is_initialized():
        dist.destroy_process_group()
