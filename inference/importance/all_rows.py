"""The log density of all rows of data that do not fit into memory, a chunk of rows at a time.

    log p(data, u) = sum_k log p(chunk_k, u) - (C - 1) c(u),   k = 1..C      c(u): what each chunk counts, as the prior

c(u) = log p(a, u) + log p(b, u) - log p(a and b, u) for any pieces a and b of the rows. Two pairs of pieces that give
different ones, and a model that takes some rows only, are refused: given its latents, the rows are not independent.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map

from ..gaussian.density import Density
from ..pair.batches import cut
from ..streaming.source import Source
from .budget import Deadline
from .chart import Chart

SAME = 1e-3  # nats, a difference of c that rounding makes, beside SHARE of the density of the rows it is taken from
SHARE = {torch.float32: 1e-5, torch.float64: 1e-10}


class NotARow(ValueError):
    """Raised where the log density is no sum over rows and what they share."""


class AllRows(NamedTuple):
    """The density of all rows. Its calls read the data once each, and raise OutOfTime where the deadline has passed."""

    density: Density  # on some rows
    source: Source
    by: Deadline | None = None
    bar: Any = None  # a progress bar over chunks

    def values(self, us: torch.Tensor) -> torch.Tensor:
        """log p(data, u) at us (n, D), nats (n,), without gradients; NaN where the model raises an error."""
        found: torch.Tensor = self.summed(lambda density: Chart(density, by=self.by).values(us))
        return found

    def summed(self, one: Callable[[Density], Any]) -> Any:
        """The sum over all rows of what `one` finds at each chunk, tensors, less what chunks count more than once."""
        total, count = None, len(self.source.chunks)
        for density, _ in self.some(range(count)):
            part = tree_map(torch.Tensor.double, one(density))
            total = part if total is None else tree_map(torch.add, total, part)
        if count == 1:
            return total
        a, b = (tree_map(torch.Tensor.double, one(each)) for each in pieces(self, self.at_hand // 2))
        both = tree_map(torch.Tensor.double, one(self.density))
        return tree_map(lambda t, x, y, z: t - (count - 1) * (x + y - z), total, a, b, both)

    @property
    def at_hand(self) -> int:
        """How many rows the density here has."""
        return len(self.density.data[self.source.rows[0]])

    def some(self, chunks: Sequence[int], most: int | None = None) -> Iterator[tuple[Density, int]]:
        """(The density on each of these chunks, in ascending order, or on `most` of its rows; how many rows it has)."""
        for values in self.source.stream(chunks, 0 if self.source.seeded else None):
            step = 1 if most is None else -(-len(values[0]) // most)
            taken = [value[::step] for value in values]
            yield self.on(taken), len(taken[0])
            if self.bar is not None:
                self.bar.update()

    def on(self, values: Sequence[torch.Tensor]) -> Density:
        """The density on other rows, the values of the arguments that have rows."""
        data, like, here = list(self.density.data), self.density.first, self.at_hand
        for i, value in zip(self.source.rows, values, strict=True):
            dtype = like.dtype if value.is_floating_point() else value.dtype
            data[i] = value.to(like.device, like.dtype.to_complex() if value.is_complex() else dtype)
        chunk = max(1, self.density.chunk * here // len(values[0]))
        return self.density._replace(data=tuple(data), chunk=chunk)


def pieces(rows: AllRows, first: int) -> tuple[Density, Density]:
    """The density on the first of the rows at hand, and on the others."""
    data, own = rows.density.data, rows.source.rows
    one, two = (cut(data, own, part) for part in (slice(None, first), slice(first, None)))
    return rows.density._replace(data=one), rows.density._replace(data=two)


def refuse_dependent(rows: AllRows, us: torch.Tensor) -> None:
    """Raises NotARow unless log p at us (n, D) is a sum over rows and what they share."""
    density = rows.density
    n = rows.at_hand
    both = Chart(density).values(us)
    shared = []
    for first in (n // 2, n // 5):
        a, b = (Chart(each).values(us) for each in pieces(rows, first))
        shared.append(a + b - both)
    far = (shared[0] - shared[1]).abs()
    slack = SAME + SHARE.get(us.dtype, 1e-5) * both.abs()
    if not bool((far <= slack).all()):
        worst = float(far.nan_to_num(nan=math.inf).max())
        raise NotARow(
            f"given the latents, the rows are not independent: two ways to cut them into pieces give log densities "
            f"that differ by {worst:.2g} nats"
        )
