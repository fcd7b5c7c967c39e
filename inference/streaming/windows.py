"""Windows: resident rows of chunks at random, the next ones read by a thread while the present ones are in use.

A window has W rows of the source's n, so that batches index into tensors in memory, and a step that was recorded or
compiled for one window serves all. Memory: two windows and one chunk.
"""

import threading
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch

from ..runtime.generators import generators_kept
from .chunked import Source
from .convert import refuse_not_finite
from .order import Piece, cut, generator, rows_of_epoch, seed_of


class Window(NamedTuple):
    """Rows in memory, in a random order."""

    values: tuple[torch.Tensor, ...]  # shape (W, ...), for each argument that has rows
    numbers: torch.Tensor  # shape (W,): which rows of the source they are


class _Ahead(NamedTuple):
    """A window that a thread reads."""

    place: tuple[int, int]
    thread: threading.Thread
    found: list[Window]
    failed: list[BaseException]


class Windows:
    """Endless windows of a source: each row once an epoch, save those that fill no window.

    size: rows of a window. seed: of the order of rows. part: (rank, number of processes), each with rows of its own.
    dtype: of floating point. device: of the values. gaps: names of the arguments that may hold NaN or infinity.
    """

    def __init__(
        self,
        source: Source,
        size: int,
        seed: int,
        part: tuple[int, int] = (0, 1),
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        gaps: Collection[str] = (),
    ) -> None:
        own = source.n // part[1]
        if not 0 < size <= own:
            raise ValueError(f"size: got a window of {size:,} rows, wanted at least 1 and at most {own:,}")
        self.source, self.size, self.seed, self.part = source, size, seed, part
        self.dtype, self.device, self.gaps = dtype, torch.device(device), frozenset(gaps)
        self.number = own // size  # of windows in an epoch
        self._place, self._next = (0, 0), (0, 0)
        self._ahead: _Ahead | None = None
        self._chunks: Iterator[tuple[torch.Tensor, ...]] | None = None  # those of the epoch that are left
        self._read: tuple[int, int, int] | None = None  # epoch, window up to which they are read, last chunk
        self._kept: tuple[torch.Tensor, ...] = ()  # the last chunk that was read

    @property
    def state(self) -> tuple[int, int, int]:
        """(seed, epoch, number in the epoch) of the window that `next` returned last; of the first one before."""
        return (self.seed, *self._place)

    def restore(self, state: tuple[int, int, int]) -> None:
        """Lets `next` return the window again that it had returned last at this state, with the same rows in it."""
        seed, epoch, number = state
        self.close()
        self.seed, self._place, self._next = seed, (epoch, number), (epoch, number)

    def next(self) -> Window:
        """The next window; a thread begins to read the one that follows it.

        Raises NotRead, which names the argument and the row, for rows that cannot be read or hold NaN or infinity.
        """
        place = self._next
        if self._ahead is None or self._ahead.place != place:
            self._begin(place)
        assert self._ahead is not None
        _, thread, found, failed = self._ahead
        if self.source.draws:  # torch's generators are those of the run: two threads must not draw at once
            thread.run()
        else:
            thread.join()
        self._ahead = None
        if failed:
            raise failed[0]
        epoch, number = self._place = place
        self._next = (epoch, number + 1) if number + 1 < self.number else (epoch + 1, 0)
        values, numbers = found.pop()
        values = tuple(value.to(self.device, non_blocking=True) for value in values)
        self._begin(self._next)
        return Window(values, numbers)

    def close(self) -> None:
        """Ends the reading: waits for the thread, and forgets what it has read."""
        if self._ahead is not None and self._ahead.thread.is_alive():
            self._ahead.thread.join()
        self._ahead, self._chunks, self._read, self._kept = None, None, None, ()

    def _begin(self, place: tuple[int, int]) -> None:
        """Begins to read the window at this place."""
        found: list[Window] = []
        failed: list[BaseException] = []

        def read() -> None:
            try:
                found.append(self._filled(*place))
            except BaseException as error:  # is raised by `next`, in the thread that asks for the window
                self._chunks = self._read = None
                failed.append(error)

        thread = threading.Thread(target=read, name="credo: next window")
        self._ahead = _Ahead(place, thread, found, failed)
        if not self.source.draws:
            thread.start()

    def _filled(self, epoch: int, number: int) -> Window:
        """The window of this number, on the CPU: each chunk goes to places at random."""
        source, size = self.source, self.size
        lengths = [rows.stop - rows.start for rows in source.chunks]
        own = rows_of_epoch(lengths, self.seed, epoch, self.part, self.number * size, source.in_order)
        pieces = cut(own, number * size, (number + 1) * size)
        if self._read is None or self._read[:2] != (epoch, number):
            ahead = cut(own, number * size, self.number * size)
            order = list(dict.fromkeys(piece.chunk for piece in ahead))
            seed = seed_of(self.seed, epoch) if source.seeded else None
            self._chunks, self._read = source.stream(order, seed), (epoch, number, -1)
        places = torch.randperm(size, generator=generator(self.seed, epoch, number))
        numbers, at = torch.empty(size, dtype=torch.int64), 0
        values: list[torch.Tensor] = []
        for piece in pieces:
            chunk = self._chunk(piece, epoch, number)
            if not values:
                values = [self._empty(value) for value in chunk]
            where = places[at : at + len(piece.rows)]
            rows = slice(piece.rows.start, piece.rows.stop, piece.rows.step)
            for whole, part in zip(values, chunk, strict=True):
                whole.index_copy_(0, where, part[rows].to(whole.dtype))
            first = source.chunks[piece.chunk].start
            numbers[where] = torch.arange(first + rows.start, first + rows.stop, rows.step)
            at += len(piece.rows)
        self._read = (epoch, number + 1, pieces[-1].chunk)
        return Window(tuple(values), numbers)

    def _chunk(self, piece: Piece, epoch: int, number: int) -> tuple[torch.Tensor, ...]:
        """The chunk of a piece; two windows that share one read it once."""
        assert self._chunks is not None and self._read is not None
        if self._read[2] != piece.chunk:
            self._kept = ()
            with generators_kept() if self.source.draws else nullcontext():
                self._kept = next(self._chunks)
            self._read = (epoch, number, piece.chunk)
            rows = self.source.chunks[piece.chunk]
            for name, value in zip(self.source.names_of_rows(), self._kept, strict=True):
                if name not in self.gaps:
                    refuse_not_finite(name, value, rows, self.source.n)
        return self._kept

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        """Room for the values of a window: in pinned memory where they go to an accelerator."""
        dtype = self.dtype if like.is_floating_point() else like.dtype
        dtype = self.dtype.to_complex() if like.is_complex() else dtype
        return torch.empty(self.size, *like.shape[1:], dtype=dtype, pin_memory=self.device.type == "cuda")
