"""The random generators of the processes of a job in its checkpoint: of each, where each draws noise of its own.

Processes that share their noise are equal, and so a job may go on with another number of them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from ..runtime.plain_state import plain_generators, put_generators
from ..runtime.workers import Workers, gathered

OF_RANKS = "generators of ranks"  # their name in the file


def generators_of_ranks(workers: Workers | None) -> list[dict[str, Any]] | None:
    """The generators of each process, by rank; None where all are the same. All processes call it."""
    every = gathered(workers, plain_generators())
    return None if all(_are_equal(each, every[0]) for each in every) else every


def refuse_other_number(path: str, generators: Sequence[Any] | None, workers: Workers | None) -> None:
    """Raises ValueError for a file of another number of processes, each of which drew noise of its own."""
    size = 1 if workers is None else workers.size
    if generators is not None and len(generators) != size:
        raise ValueError(
            f"checkpoint: {path} is of a run of {len(generators)} processes, each of which drew noise of its own, and "
            f"here {'is one' if size == 1 else f'are {size}'}; start it with {len(generators)} again "
            f"(--nproc-per-node, times hosts), or pass another path, or delete the file, to begin anew"
        )


def put_own_generators(generators: Sequence[Any] | None, workers: Workers | None) -> None:
    """Puts the generators of this process in place; None leaves them as they are."""
    if generators is not None:
        put_generators(generators[0 if workers is None else workers.rank])


def _are_equal(one: Any, other: Any) -> bool:
    """Whether two states of generators are the same."""
    mine, others = tree_leaves(one), tree_leaves(other)
    return len(mine) == len(others) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(mine, others, strict=True)
    )
