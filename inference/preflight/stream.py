"""Batches that the user hands to single steps, `svi.step(batch)`: scaled to all rows, or warned of.

A step on B of N rows without a scale is a step towards the posterior of B rows. It makes no difference where all
latents stand in the plate over rows.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
from torch.utils._pytree import tree_leaves

from ..inputs.arguments import whole_number
from ..pair.batches import rows_of, scaled
from ..pair.pair import Pair
from ..runtime.generators import noise
from ..runtime.sites import latent, observed, plates, quoted
from .rows import find_rows

LOOKS = 20  # steps until which other data is noticed


@dataclass
class Stream:
    """What a runner knows about the batches that its steps get."""

    rows: int | None = None  # of the whole data set, as the steps were told
    plates: frozenset[str] = frozenset()  # over the rows
    seen: list[tuple[Any, ...]] = field(default_factory=list)  # the data of the first step
    looks: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether nothing is looked for any more in the data of further steps."""
        return self.rows is not None or self.looks >= LOOKS

    def next(self, pair: Pair, rows: int | None, names: list[str], warnings: list[str]) -> Pair:
        """The pair of the next step, its rows scaled to `rows` in all; None: as it is, perhaps with a warning.

        names: of the data arguments, for messages. Raises ValueError for a number of rows that cannot be.
        """
        if rows is None and self.rows is None:
            self._look(pair, warnings)
            return pair
        _, size = rows_of(pair.data)
        rows = None if rows is None else whole_number("rows", rows, 1)
        if rows is None or rows < size or self.rows not in (None, rows):
            raise ValueError(
                f"rows: got {rows} for a batch of {size} rows, wanted the number of rows of the whole data set"
                + (f", {self.rows} as in the steps before" if self.rows is not None else "")
            )
        if self.rows is None:
            if size == 1 < rows:
                raise ValueError("rows: the first batch has one row; wanted two or more, to find the plate over rows")
            with noise(0):  # the search takes no random numbers of the run
                self.rows, self.plates = rows, find_rows(pair, max(1, size // 2), names).plates
        return scaled(pair, self.plates, rows / size)

    def _look(self, pair: Pair, warnings: list[str]) -> None:
        """Warns once if the data of a step is not that of the first step and counts as if it were all there is."""
        if self.looks >= LOOKS:
            return
        self.looks += 1
        if not self.seen:
            self.seen.append(pair.data)
        elif not _same(self.seen[0], pair.data):
            self.looks = LOOKS
            warnings += unscaled(pair)
        if self.looks >= LOOKS:
            self.seen.clear()


def unscaled(pair: Pair) -> list[str]:
    """A warning if the data of this pair would have to be scaled, were it a batch: for latents outside of its plate."""
    with noise(0), torch.no_grad():
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
        model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data)
    lengths = {len(t) for t in tree_leaves(pair.data) if isinstance(t, torch.Tensor) and t.dim()}
    over = {}
    for site in observed(model).values():
        weighted = bool((torch.as_tensor(site["scale"]) != 1).any())
        for frame in site["cond_indep_stack"]:
            if frame.size in lengths and frame.full_size in (None, frame.size) and frame.size > 1 and not weighted:
                over[frame.name] = frame.size
    apart = [name for name, site in latent(model).items() if not plates(site) & over.keys()]
    if not over or not apart:
        return []
    plate, size = next(iter(over.items()))
    return [
        f"the steps get different data, and each counts the {size} rows in plate {plate!r} as if they were all, so "
        f"that {quoted(apart)} would get the posterior of one batch. Give the number of rows of the whole data set, "
        f"svi.step(batch, rows=N), which a run with a Pyro optimiser does not take, or write "
        f"pyro.plate({plate!r}, N, subsample=batch)"
    ]


def _same(one: tuple[Any, ...], two: tuple[Any, ...]) -> bool:
    """Whether the tensors of two tuples of data are equal; other objects are not compared."""
    pairs = zip(tree_leaves(one), tree_leaves(two), strict=False)
    return all(
        a is b or (a.shape == b.shape and (torch.equal(a, b) or bool(((a == b) | (a != a) & (b != b)).all())))  # or NaN
        for a, b in pairs
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
    )
