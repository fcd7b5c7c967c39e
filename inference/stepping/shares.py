"""What each process of a run takes of a step: some of the rows of its batch, or some of its particles."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

from ..pair.batches import Rows, Shuffled
from ..planning.plain_plan import plain_plan, with_plain
from ..runtime.traced import first_line
from ..runtime.workers import Workers, agreed
from .settings import Settings

P = TypeVar("P", bound=Any)  # `Prepared`, of prepare.py


def rows_of_run(settings: Settings, find: Callable[[int], Rows]) -> Rows | None:
    """How the data is cut into batches; None where a step takes all rows, and one process all of them.

    find: the rows for batches of this size. Raises ValueError for rows that cannot be cut.
    """
    size, workers = settings.batch_size, settings.workers
    parts = workers is not None and workers.shard == "rows"
    if workers is not None and parts and size is not None and size < workers.size:
        raise ValueError(f"batch_size: got {size} for {workers.size} processes, wanted a row for each, or more")
    rows = None if size is None else find(size)
    if rows is not None and rows.size >= rows.in_all:
        rows = None
    if workers is None:
        return rows
    if rows is None and parts:
        rows = _all_rows(workers, find)
    if rows is not None and rows.tables:
        raise ValueError(
            f"shard: parameter {min(rows.tables)!r} has a row for each of the {rows.n:,} rows, of which each process "
            f"would train some, or a copy; take one process, or guide='amortised', whose network all processes share"
        )
    return rows


def _all_rows(workers: Workers, find: Callable[[int], Rows]) -> Rows:
    """The rows of a batch of all data, of which each process takes a part."""
    try:
        n = find(1).n
        if n < workers.size:
            raise ValueError(f"the data has {n} rows")
        return find(math.ceil(n / workers.size))._replace(size=n)
    except ValueError as error:
        said = first_line(error).removeprefix("batch_size: ")
        raise ValueError(
            f"shard: {workers.size} processes cannot share the rows of a step: {said}. With shard='particles' each "
            f"takes all rows, and draws of its own"
        ) from error


def share_of(workers: Workers | None) -> tuple[int, int]:
    """(the first row of a batch that this process takes, the number of rows to the next)."""
    return (0, 1) if workers is None or workers.shard != "rows" else (workers.rank, workers.size)


def part_of(workers: Workers | None, size: int) -> int:
    """How many rows of a batch of this size this process takes."""
    first, of = share_of(workers)
    return len(range(first, size, of))


def shuffled(rows: Rows | None, workers: Workers | None) -> Shuffled | None:
    """The batches of a run, of which this process takes its part."""
    first, of = share_of(workers)
    return None if rows is None else Shuffled(rows, first=first, of=of)


def with_compiler(workers: Workers | None, rows: Rows | None) -> Workers | None:
    """The processes, where one on each host compiles for all that take as many rows as it does."""
    if workers is None or rows is None:
        return workers
    own = part_of(workers, rows.size)
    before = (workers._replace(rank=workers.rank - k) for k in range(1, workers.local_rank + 1))
    return workers._replace(compiles=all(part_of(other, rows.size) != own for other in before))


def as_first(prepared: P, settings: Settings) -> P:
    """What a run found out before its first step, with the plan and the number of particles of the first process.

    Where processes share the particles, the number is that of each.
    """
    workers = settings.workers
    if workers is None:
        return prepared
    plain, vectorised, particles = agreed(
        workers, lambda: (plain_plan(prepared.plan), prepared.vectorised, prepared.particles)
    )
    if workers.shard == "particles":
        least = 2 if settings.particles is None and prepared.plan.needs_score else 1
        particles = max(least, math.ceil(particles / workers.size))
    plan = with_plain(prepared.plan, plain)
    return prepared._replace(plan=plan, vectorised=vectorised, particles=particles)


def particles_of(workers: Workers | None, asked: int | None) -> int | None:
    """How many of the particles that the user asked for each process makes. Raises ValueError for unequal parts."""
    if asked is None or workers is None or workers.shard != "particles":
        return asked
    if asked % workers.size:
        raise ValueError(f"particles: got {asked} for {workers.size} processes to share, wanted a multiple of that")
    return asked // workers.size
