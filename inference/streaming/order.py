"""Which rows are in which window: chunks of an epoch in a random order, dealt to processes, cut into windows.

Every process and every window has the same number of rows, so that a step has one shape. What is left over in an epoch,
fewer rows than one for each process and one batch for each window, is at random: other rows in each epoch.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch


class Piece(NamedTuple):
    """Some rows of a chunk."""

    chunk: int
    rows: range  # counted from the first row of the chunk


def generator(*numbers: int) -> torch.Generator:
    """A generator whose draws depend on these numbers alone, as seed, epoch and window."""
    return torch.Generator().manual_seed(seed_of(*numbers))


def seed_of(*numbers: int) -> int:
    """A seed below 2**32 that depends on these numbers, the same on every machine."""
    return int(np.random.SeedSequence([int(n) % 2**32 for n in numbers]).generate_state(1)[0])


def rows_of_epoch(
    lengths: Sequence[int], seed: int, epoch: int, part: tuple[int, int], most: int, in_order: bool
) -> list[Piece]:
    """The rows that one process reads in an epoch, `most` at most, in the order in which it reads them.

    lengths: rows of each chunk. part: (rank, number of processes): each process gets its own rows, n // processes.
    in_order: the chunks come one after the other, and each process takes every so many rows of all of them.
    """
    rank, of = part
    n = sum(lengths)
    own, drawn = n // of, generator(seed, epoch)
    if not in_order:
        order = torch.randperm(len(lengths), generator=drawn).tolist()
        return cut((Piece(k, range(lengths[k])) for k in order), rank * own, rank * own + min(own, most))
    pieces, at = [], 0
    for k, length in enumerate(lengths):
        pieces.append(Piece(k, range((rank - at) % of, length, of)))
        at += length
    gap = int(torch.randint(min(own, most) + 1, (), generator=drawn))  # before it are rows that count, behind it, too
    return cut(pieces, 0, gap) + cut(pieces, gap + max(own - most, 0), own)


def cut(pieces: Iterable[Piece], begin: int, end: int) -> list[Piece]:
    """Of the rows of these pieces, one after the other, those from number `begin` to before `end`."""
    found, at = [], 0
    for chunk, rows in pieces:
        taken = rows[max(begin - at, 0) : max(end - at, 0)]
        if len(taken):
            found.append(Piece(chunk, taken))
        at += len(rows)
    return found
