"""Minibatches: the log densities of some rows of the data, scaled to all rows.

    -ELBO = E_q[log q(z) - log p(z) - (N / B) sum_{n in batch} log p(x_n | z)]   for B rows at random

The user's model has a plate over the rows it is given, of whatever number (`pyro.plate("N", len(x))`). Which plates
those are is found by running the pair on batches of two sizes: the plates whose size follows. Their sites, latent or
observed, in the model and in the guide, count N / B times (Hoffman et al. 2013, eq. 28). Sites outside them must not
depend on which rows are given: `preflight/rows.py` checks this, since the result would be wrong without an error.
"""

import math
import random
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from ..runtime.sites import observed
from .pair import Pair
from .tables import on_rows


class Rows(NamedTuple):
    """How the data is cut into batches of rows."""

    arguments: tuple[int, ...]  # positions of the arguments that have a row for each observation
    n: int  # rows at hand: all, or those of a window
    size: int  # rows of a batch
    plates: frozenset[str]  # names of the plates over the rows
    tables: frozenset[str] = frozenset()  # parameters with a row for each row of the data, of which a batch has its own
    total: int = 0  # rows in all, where those at hand are a window of them; 0: they are all

    @property
    def in_all(self) -> int:
        """How many rows the whole data set has, to which a batch is scaled."""
        return self.total or self.n


class OtherRows(ValueError):
    """The data of a step are not as those that the run began with: no bad draw, but a mistake."""


def batch(
    pair: Pair,
    rows: Rows,
    index: torch.Tensor,
    leaves: Mapping[str, torch.Tensor] | None = None,
    factor: float | None = None,
) -> Pair:
    """The pair on the rows of this index, shape (B,), their sites scaled by N / B, or by another factor.

    leaves: {table: its rows of this index, unconstrained}; None: they are read from the store.
    """
    n = len(pair.data[rows.arguments[0]])
    if n != rows.n:
        raise OtherRows(f"batch_size: got {n} rows where the run began with {rows.n}; give all rows every time")
    part = pair._replace(data=cut(pair.data, rows.arguments, index))
    pair = scaled(part, rows.plates, factor or rows.in_all / len(index))
    return on_rows(pair, rows.tables, index, leaves or {}) if rows.tables else pair


def scaled(pair: Pair, plates: frozenset[str], factor: float) -> Pair:
    """The pair with the log densities of all sites in these plates multiplied by a factor."""
    model, guide = (_scaled(program, plates, factor) for program in (pair.model, pair.guide))
    return pair._replace(model=model, guide=guide, factor=factor)


def thinned(trace: poutine.Trace) -> float:
    """By how much the model's own plates scale what it observes: rows in all per row drawn, the most at any site."""
    frames = [site["cond_indep_stack"] for site in observed(trace).values()]
    return max((math.prod((f.full_size or f.size) / f.size for f in stack if f.size) for stack in frames), default=1.0)


class Batches(Protocol):
    """An endless iterator over batches, indices (B,) of the rows at hand.

    Processes that share the rows of a batch take every `of`-th of them each, from the `first`.
    """

    rows: Rows
    first: int
    of: int
    seed: int | None  # of the shuffling, where the noise of the run is not that of the other processes

    @property
    def at_once(self) -> int:
        """How many batches can be taken from here on, the next one included, of those that `left` counts."""
        ...

    @property
    def factor(self) -> float:
        """By how much the densities of the rows taken here are scaled, so that their mean over processes is right."""
        ...

    @property
    def left(self) -> int:
        """How many batches come before there are others than those of the rows at hand, or in another order."""
        ...

    def __next__(self) -> torch.Tensor: ...

    def stacked(self, first: torch.Tensor, count: int) -> torch.Tensor:
        """The indices of this batch and of the next count - 1, shape (count, B)."""
        ...

    def put_back(self, index: torch.Tensor) -> None:
        """Undoes the last `next`, which gave this batch."""
        ...

    def state(self) -> Any:
        """Where it stands, as plain values, for `put`."""
        ...

    def put(self, state: Any) -> None:
        """Goes on from a `state`."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """The batches taken inside are not missing afterwards."""
        ...


@dataclass
class Shuffled:
    """An endless iterator over batches, indices (B,): each row once an epoch, except rows that fill no batch."""

    rows: Rows
    epoch: list[torch.Tensor] = field(default_factory=list)  # its batches that are left, the next one last
    first: int = 0
    of: int = 1
    seed: int | None = None  # of the shuffling, where the noise of the run is not that of the other processes
    epochs: int = 0  # that have begun
    taken: list[torch.Tensor] = field(default_factory=list)  # the last batch, that of all processes

    @property
    def is_whole(self) -> bool:
        """Whether each batch is all rows, which are not shuffled."""
        return self.rows.size == self.rows.n

    @property
    def left(self) -> int:
        """How many batches come before the rows are shuffled again."""
        return sys.maxsize if self.is_whole else len(self.epoch)

    @property
    def at_once(self) -> int:
        """How many batches can be taken from here on, the next one included, before the rows are shuffled again."""
        return self.left or self.rows.n // self.rows.size

    @property
    def factor(self) -> float:
        """By how much the densities of the rows taken here are scaled, so that their mean over processes is right."""
        return self.rows.n / self.rows.size * self.of

    def stacked(self, first: torch.Tensor, count: int) -> torch.Tensor:
        """The indices of this batch and of the next count - 1, shape (count, B)."""
        if self.is_whole:
            return first.expand(count, -1)
        return torch.stack([first, *(next(self) for _ in range(count - 1))])

    def put_back(self, index: torch.Tensor) -> None:
        """Undoes the last `next`, which gave this batch. The first of an epoch undoes the shuffling, too."""
        self.epoch = [] if self.left == self.rows.n // self.rows.size - 1 else [*self.epoch, *self.taken]

    def state(self) -> list[torch.Tensor]:
        """Where it stands, as plain values, for `put`."""
        return [index.clone() for index in self.epoch]

    def put(self, state: Any) -> None:
        """Goes on from a `state`. Raises ValueError for that of rows that do not fit into memory."""
        if not isinstance(state, list):
            raise ValueError("the run has its rows in memory here, and read them by windows there")
        self.epoch = list(state)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The batches taken inside are not missing afterwards."""
        epoch, epochs = list(self.epoch), self.epochs
        try:
            yield
        finally:
            self.epoch, self.epochs = epoch, epochs

    def __iter__(self) -> "Shuffled":
        return self

    def __next__(self) -> torch.Tensor:
        n, size = self.rows.n, self.rows.size
        if self.is_whole:
            return torch.arange(self.first, n, self.of)
        if not self.epoch:
            self.epoch = list(self._order()[: n // size * size].split(size))[::-1]
            self.epochs += 1
        self.taken = [self.epoch.pop()]
        return self.taken[0][self.first :: self.of]

    def _order(self) -> torch.Tensor:
        """All rows in the order of the next epoch."""
        if self.seed is None:
            return torch.randperm(self.rows.n)
        seed = random.Random(f"seed {self.seed}, epoch {self.epochs}").getrandbits(32)
        return torch.randperm(self.rows.n, generator=torch.Generator().manual_seed(seed))


def rows_of(data: tuple[Any, ...]) -> tuple[tuple[int, ...], int]:
    """(positions of the arguments that have rows, number of rows): the length that most tensors share, else the first.

    Raises ValueError for data without a tensor that has rows.
    """
    lengths = {i: len(v) for i, v in enumerate(data) if isinstance(v, torch.Tensor) and v.dim() > 0}
    if not lengths:
        raise ValueError("batch_size: the data holds no tensor with rows to take some of")
    n = max(lengths.values(), key=list(lengths.values()).count)
    return tuple(i for i, length in lengths.items() if length == n), n


def cut(data: Sequence[Any], arguments: Collection[int], rows: Any) -> tuple[Any, ...]:
    """The data with some rows, an index or a slice, of the tensors at the positions of the arguments that have rows."""

    def some(value: torch.Tensor) -> torch.Tensor:
        return value[rows.to(value.device) if isinstance(rows, torch.Tensor) else rows]

    return tuple(some(v) if i in arguments and isinstance(v, torch.Tensor) else v for i, v in enumerate(data))


def _scaled(program: Callable[..., Any], plates: frozenset[str], factor: float) -> Callable[..., Any]:
    def scaled(*args: Any, **kwargs: Any) -> Any:
        with Scaled(plates, factor):
            return program(*args, **kwargs)

    return scaled


class Scaled(Messenger):
    """Multiplies the log density of the sites in these plates."""

    def __init__(self, plates: frozenset[str], factor: float) -> None:
        super().__init__()
        self.plates, self.factor = plates, factor

    def _pyro_sample(self, msg: Any) -> None:
        if any(frame.name in self.plates for frame in msg["cond_indep_stack"]):
            msg["scale"] = msg["scale"] * self.factor
