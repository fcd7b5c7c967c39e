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
        return tree_map(lambda t, c: t - (count - 1) * c, total, self.shared(one, self.at_hand // 2))

    def shared(self, one: Callable[[Density], Any], first: int) -> Any:
        """What every chunk counts of what `one` finds, by the rows at hand, cut into the first of them and the others.

        a + b - (a and b), tensors in double precision.
        """
        data, own = self.density.data, self.source.rows
        parts = [cut(data, own, part) for part in (slice(None, first), slice(first, None))]
        three = (self.density._replace(data=part) for part in (*parts, data))
        return tree_map(lambda a, b, both: a + b - both, *(tree_map(torch.Tensor.double, one(each)) for each in three))

    @property
    def at_hand(self) -> int:
        """How many rows the density here has."""
        return len(self.density.data[self.source.rows[0]])

    def some(self, chunks: Sequence[int], most: int | None = None) -> Iterator[tuple[Density, int]]:
        """(The density on each of these chunks, in ascending order, or on `most` of its rows; how many rows it has)."""
        for values in self.source.stream(chunks, 0 if self.source.seeded else None):
            taken = values if most is None else thinned(values, most)
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


def thinned(values: Sequence[torch.Tensor], most: int) -> list[torch.Tensor]:
    """At most so many of the rows, evenly apart."""
    step = -(-len(values[0]) // most)
    return [value[::step] for value in values]


def refuse_dependent(rows: AllRows, us: torch.Tensor) -> None:
    """Raises NotARow unless log p at us (n, D) is a sum over rows and what they share."""
    cuts = rows.at_hand // 2, rows.at_hand // 5
    one, two = (rows.shared(lambda density: Chart(density).values(us), first) for first in cuts)
    far = (one - two).abs()
    slack = SAME + SHARE.get(us.dtype, 1e-5) * Chart(rows.density).values(us).abs()
    if not bool((far <= slack).all()):
        worst = float(far.nan_to_num(nan=math.inf).max())
        raise NotARow(
            f"given the latents, the rows are not independent: two ways to cut them into pieces give log densities "
            f"that differ by {worst:.2g} nats"
        )
