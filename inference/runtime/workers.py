"""The processes of one run: who they are, and what they tell one another.

    gradient of the run = 1/K sum_k gradient of process k         by one sum over one vector in each step

torch.distributed does the work: gloo between CPUs, NCCL between GPUs. Every process calls the functions below in the
same order. What may differ between them (a clock, Ctrl-C, an error) is decided by the first of them, or told to all.
"""

import functools
import os
import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
from torch import distributed

from .torchrun import among_those_of_host, joined, local_rank, of_messages, wait_for_all, wait_for_first

T = TypeVar("T")
GROUP = "credo"  # the name by which compiled code finds all processes
SHARDS = ("rows", "particles")


class Workers(NamedTuple):
    """The processes of a run, as one of them sees them; a run in one process has None in its place."""

    rank: int  # of this process, from 0
    size: int  # processes
    local_rank: int  # of this process among those on its host
    shard: str = "rows"  # what the processes share: the "rows" of a batch, or its "particles"
    compiles: bool = True  # whether this process compiles the step, for those on its host that take the same


class ProcessFailed(Exception):
    """Another process of the run raised an error, or has ended: which, and why."""


def workers(shard: str = "rows") -> Workers | None:
    """The processes of this run; None if there is one. The first call joins those that `torchrun` has started."""
    if not joined():
        return None
    rank, size = distributed.get_rank(), distributed.get_world_size()
    if not _is_known(GROUP):
        _names()._register_process_group(GROUP, distributed.group.WORLD)
    found = Workers(rank, size, local_rank(), shard)
    if not os.environ.get("LOCAL_RANK"):  # of another launcher
        found = found._replace(local_rank=among_those_of_host(rank))
    return found._replace(compiles=found.local_rank == 0)


def is_first(workers: Workers | None) -> bool:
    """Whether this process speaks for the run: progress bar, warnings, files."""
    return workers is None or workers.rank == 0


def agreed(workers: Workers | None, compute: Callable[[], T]) -> T:
    """What `compute()` returns in the first process, in all of them. An error that it raises is raised in all."""
    if workers is None:
        return compute()
    box: list[Any] = [b""]
    error: BaseException | None = None
    if workers.rank == 0:
        try:
            box[0] = pickle.dumps((compute(), None))
        except BaseException as raised:
            error, box[0] = raised, _sent(raised)
    _together(wait_for_first)
    _together(lambda: distributed.broadcast_object_list(box, src=0))
    if error is not None:
        raise error
    value, failed = pickle.loads(box[0])
    if failed is not None:
        raise failed
    found: T = value
    return found


def gathered(workers: Workers | None, value: T) -> list[T]:
    """What each process gives, in the order of ranks, in all of them."""
    if workers is None:
        return [value]
    found: list[Any] = [None] * workers.size
    greatest(workers, [0])  # waits for the last
    _together(lambda: distributed.all_gather_object(found, value))
    return found


def everywhere(workers: Workers | None, compute: Callable[[], T]) -> T:
    """What `compute()` returns here. If it fails in one process it fails in all: there with its own error.

    Raises ProcessFailed where another process failed, with the words of its error.
    """
    if workers is None:
        return compute()
    error: BaseException | None = None
    try:
        found = compute()
    except BaseException as raised:
        error = raised
    words = gathered(workers, "" if error is None else in_words(error))
    if error is not None:
        raise error
    refuse_failed(words)
    return found


def refuse_failed(words: Sequence[str]) -> None:
    """Raises ProcessFailed for the first process that has words of an error."""
    for rank, said in enumerate(words):
        if said:
            raise ProcessFailed(f"process {rank} of {len(words)} ended with {said}")


def in_words(error: BaseException) -> str:
    """An error as another process shows it."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:300]}"


def averaged(workers: Workers | None, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The means of these tensors over all processes, by one sum over one vector. Their shapes are those everywhere."""
    if workers is None:
        return list(tensors)
    flat = as_vector(tensors)
    _together(lambda: distributed.all_reduce(flat))
    flat /= workers.size
    pieces = flat.split([t.numel() for t in tensors])
    return [piece.view(t.shape).to(t.dtype) for piece, t in zip(pieces, tensors, strict=True)]


def as_vector(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """One vector of all these numbers, in the precision of all but the first tensor, the loss, if there are others."""
    dtype = functools.reduce(torch.promote_types, [t.dtype for t in tensors[1:] or tensors])
    return torch.cat([t.detach().reshape(-1).to(dtype) for t in tensors])


def averaged_step(
    workers: Workers | None,
    loss: torch.Tensor,
    gradients: Sequence[torch.Tensor | None],
    leaves: Sequence[torch.Tensor],
    baselines: Sequence[torch.Tensor] = (),
) -> tuple[torch.Tensor, list[torch.Tensor | None], list[torch.Tensor]]:
    """The means over all processes of a step's loss, a scalar, its gradients, one a leaf, and its baselines.

    A leaf without a gradient here has none, unless it has one that is not zero elsewhere. The vector has a place for
    every leaf, so that its length does not depend on how a process takes its steps; compiled steps make the same sum.
    """
    if workers is None:
        return loss, list(gradients), list(baselines)
    filled = [torch.zeros_like(p) if g is None else g for p, g in zip(leaves, gradients, strict=True)]
    loss, *means = averaged(workers, [loss, *filled, *baselines])
    found = [
        None if g is None and not mean.any() else mean for g, mean in zip(gradients, means[: len(filled)], strict=True)
    ]
    return loss, found, means[len(filled) :]


def greatest(workers: Workers | None, numbers: Sequence[int]) -> list[int]:
    """The largest of each of these whole numbers over all processes."""
    if workers is None:
        return list(numbers)
    found = torch.tensor(numbers, dtype=torch.int64, device=of_messages())
    _together(lambda: wait_for_all(found))
    return [int(number) for number in found.tolist()]


def sent_from_first(workers: Workers | None, tensors: Sequence[torch.Tensor]) -> None:
    """Writes the values that these tensors have in the first process into those of all."""
    if workers is None or not tensors:
        return
    with torch.no_grad():
        for t in tensors:
            of_first = t.detach().contiguous()
            _together(functools.partial(distributed.broadcast, of_first, src=0))
            if of_first.data_ptr() != t.data_ptr():
                t.copy_(of_first)


def seed_of(workers: Workers | None, seed: int) -> int:
    """A seed of this process's own. The first keeps the seed of the run."""
    if is_first(workers):
        return seed
    assert workers is not None
    return random.Random(f"seed {seed} of process {workers.rank}").getrandbits(32)


@contextmanager
def alone(workers: Workers | None) -> Iterator[None]:
    """Inside, compiled code that averages over all processes finds this one by itself, and waits for nobody."""
    if workers is None:
        yield
        return
    names = _names()
    # torch keeps no group alive by its name: this one lives as long as the call. One made by `new_group` hangs when the
    # processes end.
    own = names.ProcessGroup(store := distributed.HashStore(), 0, 1)
    gloo = names.ProcessGroupGloo(store, 0, 1, timedelta(minutes=1))
    own._register_backend(torch.device("cpu"), names.ProcessGroup.BackendType.GLOO, gloo)
    every = names._resolve_process_group(GROUP)
    names._unregister_process_group(GROUP)
    names._register_process_group(GROUP, own)
    try:
        yield
    finally:
        names._unregister_process_group(GROUP)
        names._register_process_group(GROUP, every)


def _names() -> Any:
    """What knows groups by their names, in torch."""
    return torch._C._distributed_c10d


def _is_known(name: str) -> bool:
    try:
        _names()._resolve_process_group(name)
    except (RuntimeError, ValueError, LookupError):
        return False
    return True


def _together(exchange: Callable[[], Any]) -> None:
    """Runs an exchange of messages. Raises ProcessFailed if a process has ended meanwhile."""
    try:
        exchange()
    except (RuntimeError, ConnectionError) as error:
        said = in_words(error)
        raise ProcessFailed(f"another process of the run has ended, or cannot be reached ({said})") from error


def _sent(error: BaseException) -> bytes:
    """An error as bytes; one that cannot be sent is sent in words."""
    try:
        whole = pickle.dumps((None, error))
        pickle.loads(whole)
        return whole
    except Exception:
        return pickle.dumps((None, RuntimeError(in_words(error))))
