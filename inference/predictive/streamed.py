"""Draws of programs that share their latents, in pieces of bounded memory.

    z_1, ..., z_n ~ q(z);   for each batch of rows b, y_ib ~ p(y_b | z_i):   i = 1, ..., n in pieces

The latents are drawn once if they are few, else again for each batch, from the same seeds. So every batch has the same
latents, and what the model computes of them does not depend on the batches.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import pyro
import torch

from ..runtime.vectorise import pieces, ready_to_draw, refusing_too_many
from .reduced import Place, Values

FEW = 2**22  # numbers of latents that are held at once
LARGE, SMALL = 2**22, 2**20  # numbers of the largest tensor of a piece; the latter where memory is to be bounded
RUNS = ""  # the name of zeros (draws,) beside the latents, which count the runs where there is no latent


class Result(Protocol):
    """What becomes of the draws, see `reduced.py`."""

    def add(self, piece: Values, begin: int, place: Place) -> None:
        """The draws from number `begin` on, of the rows of a batch."""
        ...

    def end_batch(self, place: Place) -> None:
        """All draws of the batch were added."""
        ...


def streamed(
    n: int,
    seed: int,
    latents: Callable[[int, int], Values],
    batches: Sequence[tuple[Callable[[Values], Values], Place]],
    result: Result,
    elements: int,
) -> None:
    """Adds n draws of each batch to the result. It changes the random generators.

    latents: the draws from number i on, as many as asked for, of the latents that all batches share, {site: (draws,
    *shape)}. batches: the program of each batch, a function of one draw of the latents, and its place. elements:
    numbers of the largest tensor of a piece. Raises MemoryError for draws that do not fit.
    """
    with torch.no_grad(), refusing_too_many(n):
        _start(seed, 0, 0)
        numbers = sum(value.numel() for value in latents(0, 1).values())
        size = min(n, max(1, FEW // max(1, numbers)))
        held: Values | None = None
        for b, (program, place) in enumerate(batches):
            ready = None
            for c, begin in enumerate(range(0, n, size)):
                if held is None or size < n:
                    _start(seed, c, 0)
                    many = min(size, n - begin)
                    held = {**latents(begin, many), RUNS: torch.zeros(many)}
                if ready is None:
                    ready = ready_to_draw(program, held, elements)
                _start(seed, c, b + 1)
                for piece in pieces(*ready, held):
                    result.add(piece, begin, place)
                    begin += len(next(iter(piece.values()), ()))
            result.end_batch(place)


def _start(seed: int, chunk: int, stream: int) -> None:
    """Starts all generators for a chunk of draws. stream: 0 for the latents, else the number of the batch."""
    pyro.set_rng_seed(int(np.random.SeedSequence((seed, chunk, stream)).generate_state(1)[0]))
