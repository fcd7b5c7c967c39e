"""Batches of data that do not fit into memory: rows of the window at hand, one batch after the other.

    window 1: batch 1, ..., W / B    window 2: batch 1, ...        W rows at random in memory, of N; B in a step

The window stands in the same tensors all the time, so that a pair, and steps that were recorded or compiled on it, see
its rows whichever they are. A new window is looked at as the first data were: a label of no class is an error there.

Several processes that share the rows of a batch read other rows each: a batch is what each takes from its own window.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ..inputs.arguments import Arguments, arguments
from ..pair.batches import OtherRows, Rows
from ..pair.pair import Pair
from ..streaming.source import Source, rows_of_window
from ..streaming.windows import Window, Windows
from .later_rows import known_of, refuse_later
from .settings import Settings
from .shares import share_of


class Streamed(NamedTuple):
    """Data that a run reads window by window."""

    source: Source
    windows: Windows
    given: Arguments  # the rows at hand, in tensors that later windows are written into
    numbers: torch.Tensor  # shape (W,): which rows of all they are at first
    data: tuple[Any, ...]  # as the user gave them

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The tensors that hold the window, one for each argument that has rows."""
        return tuple(self.given.values[i] for i in self.source.rows)


@dataclass
class WindowBatches:
    """An endless iterator over batches, indices (B,) into the window at hand; each row of the data once an epoch."""

    rows: Rows
    windows: Windows
    tensors: tuple[torch.Tensor, ...]  # that hold the window
    numbers: torch.Tensor  # shape (W,): which rows of all they are
    look: Callable[[torch.Tensor], None]  # at a new window, whose row numbers it gets; raises ValueError
    at: int = 0  # batches of the window that were taken
    waiting: Window | None = None  # a window that is being put in place
    stays: bool = False  # whether the batches begin anew where the window ends
    first: int = 0  # which of the processes that share the rows of a batch this is
    of: int = 1  # how many they are
    seed: int | None = None  # of the run; windows have their own

    @property
    def each(self) -> int:
        """Rows of the window for each batch, as many in every process."""
        return -(-self.rows.size // self.of)

    @property
    def left(self) -> int:
        """How many batches the window at hand still has."""
        return self.rows.n // self.each - self.at

    @property
    def at_once(self) -> int:
        """How many batches can be taken from here on, the next one included, before another window comes."""
        return max(1, self.left)

    @property
    def factor(self) -> float:
        """By how much the densities of the rows taken here are scaled, so that their mean over processes is right."""
        return self.rows.in_all / self.rows.size * self.of

    def stacked(self, first: torch.Tensor, count: int) -> torch.Tensor:
        """The indices of this batch and of the next count - 1, shape (count, B)."""
        return torch.stack([first, *(next(self) for _ in range(count - 1))])

    def put_back(self, index: torch.Tensor) -> None:
        """Undoes the last `next`, which gave this batch."""
        self.at -= 1

    def state(self) -> dict[str, Any]:
        """Where it stands, as plain values, for `put`."""
        return {"window": list(self.windows.state), "at": self.at}

    def put(self, state: Any) -> None:
        """Goes on from a `state`, in the same window. Raises ValueError for the state of a run on rows in memory."""
        if not isinstance(state, dict):
            raise ValueError("the run reads its rows by windows here, and had them in memory there")
        if tuple(state["window"]) != self.windows.state or self.waiting is not None:
            self.windows.restore(tuple(state["window"]))
            self.waiting = self.windows.next()
            self._turn()
        self.at = state["at"]

    @contextmanager
    def held(self) -> Iterator[None]:
        """The batches taken inside are not missing afterwards; they are of the window at hand."""
        at, stays = self.at, self.stays
        self.stays = True
        try:
            yield
        finally:
            self.at, self.stays = at, stays

    def __iter__(self) -> "WindowBatches":
        return self

    def __next__(self) -> torch.Tensor:
        if self.waiting is not None:  # Ctrl-C came while it was put in place
            self._turn()
        if self.left <= 0:
            if self.stays:
                self.at = 0
            else:
                self.waiting = self.windows.next()
                self._turn()
        begin = self.at * self.each
        self.at += 1
        return torch.arange(begin, begin + len(range(self.first, self.rows.size, self.of)))

    def _turn(self) -> None:
        """Puts the window that waits in place, and looks at it."""
        assert self.waiting is not None
        for tensor, value in zip(self.tensors, self.waiting.values, strict=True):
            tensor.copy_(value)
        self.numbers, self.at = self.waiting.numbers, 0
        self.look(self.numbers)
        self.waiting = None


def open_windows(
    source: Source, data: tuple[Any, ...], settings: Settings, dtype: torch.dtype, device: torch.device
) -> Streamed:
    """The data of a run at its first window. Raises ValueError as `arguments`, and for a batch of too many rows."""
    part = share_of(settings.workers)
    size = rows_of_window(source, -(-(settings.batch_size or 1) // part[1]), part)
    windows = Windows(source, size, settings.seed, part, dtype=dtype, device=device, gaps=source.names)
    first = windows.next()
    given = arguments(settings.model, source.given(first.values), dtype, device, gaps=None, whole=True)
    given = given._replace(
        columns=source.columns,
        codes=source.codes,
        notices=(*source.notices, *given.notices),
        row_labels=(None,) * len(given.values),
    )
    return Streamed(source, windows, given, first.numbers, data)


def close(streamed: Streamed | None) -> None:
    """Ends the reading ahead, where rows are read by windows: a run that goes on begins it anew."""
    if streamed is not None:
        streamed.windows.close()


def batches_of(streamed: Streamed, pair: Pair, rows: Rows, gaps: Collection[str]) -> WindowBatches:
    """The batches of a run. pair: on the window at hand. gaps: arguments with missing values that it leaves out."""
    names, held = streamed.given.names, set(gaps)
    known = {i: known_of(pair.data[i]) for i in streamed.source.rows}

    def look(numbers: torch.Tensor) -> None:
        refuse_later(pair, streamed.source.rows, known, names, held, numbers)

    return WindowBatches(rows, streamed.windows, streamed.tensors, streamed.numbers, look)


def entry_of_each_row(name: str) -> str:
    """What refuses a parameter with an entry for each row, of which a window has some: others would take its place."""
    return (
        f"batch_size: parameter {name!r} has an entry for each row, and the rows do not fit into memory; take "
        f"guide='amortised', whose network computes the latents of a row from its data"
    )


def rows_at_hand(streamed: Streamed, data: tuple[Any, ...]) -> Arguments:
    """The arguments of a further call, of the same data. Raises OtherRows for data that the run did not begin with."""
    if len(data) != len(streamed.data) or any(a is not b for a, b in zip(data, streamed.data, strict=True)):
        raise OtherRows(
            f"the run reads {streamed.source.n:,} rows by windows, and this call has other data; pass the very objects "
            f"that it began with, or make another runner"
        )
    return streamed.given


def refuse_scaled(streamed: Streamed | None, pair: Pair) -> None:
    """Raises ValueError for the pair of a step that was told a number of rows, where the rows come by windows."""
    if streamed is not None and pair.factor != 1:
        raise ValueError(
            f"rows: got a number of rows for data that the run reads by windows, and scales to their "
            f"{streamed.source.n:,} rows itself; leave it out"
        )
