"""Rows that come after the first ones, in a window of data that do not fit into memory: what is new about them.

An argument is looked at again where it leaves the range that it has had, is no whole number where all were, or where
its rows do not add up to the sum that all had. Then the pair runs on the rows with its extremes (`some_rows`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyro
import torch

from ..inputs.missing import not_finite
from ..pair.batches import OtherRows, cut
from ..pair.pair import Pair
from ..preflight.check import refuse_values
from ..preflight.gaps import refuse_gaps
from ..runtime.generators import noise
from ..runtime.retries import at_other_draws
from ..streaming.some_rows import COLUMNS, rows_and_columns, telling_rows

CHUNK = 2**18  # numbers that are looked at together
SAME = 1e-4  # a difference of the sums of rows that rounding makes


class Known(NamedTuple):
    """What an argument has been like. low, high: of each column of whole numbers, or of all numbers together."""

    low: torch.Tensor
    high: torch.Tensor
    whole: bool  # whether all are whole numbers
    total: float | None = None  # to which every row adds up

    def holds(self, value: torch.Tensor) -> bool:
        """Whether these rows are like it, too; not where one is NaN."""
        for part in _parts(value):
            low, high = _range(part, self.whole)
            if not ((low >= self.low).all() and (high <= self.high).all()):
                return False
            if self.whole and part.is_floating_point() and not torch.equal(part, part.round()):
                return False
            if self.total is not None and not _adds_up(part, self.total):
                return False
        return True


def known_of(value: torch.Tensor, before: Known | None = None) -> Known:
    """What an argument is like on these rows, and was before."""
    whole = all(not part.is_floating_point() or torch.equal(part, part.round()) for part in _parts(value))
    whole = whole and (before is None or before.whole)
    ranges = [_range(part, whole) for part in _parts(value)]
    if before is not None:
        ranges.append((before.low, before.high) if whole else (before.low.amin(), before.high.amax()))
    low, high = (torch.stack(each) for each in zip(*ranges, strict=True))
    first = rows_and_columns(value)[0].sum().item()
    total = first if value.dim() > 1 and all(_adds_up(part, first) for part in _parts(value)) else None
    if before is not None and (total is None or before.total is None or abs(total - before.total) > SAME):
        total = None
    return Known(low.nan_to_num(torch.inf).amin(0), high.nan_to_num(-torch.inf).amax(0), whole, total)


def refuse_later(
    pair: Pair, positions: Sequence[int], known: dict[int, Known], names: Sequence[str], gaps: set[str], numbers: Any
) -> None:
    """Raises OtherRows for rows that would have been refused among the first; else `known` and `gaps` know them.

    pair: on the rows at hand. positions: of the arguments that have rows. known: {position: what it has been like}.
    gaps: the arguments with missing values that the pair leaves out itself. numbers: of the rows in the whole data.
    """
    news = [i for i in positions if not known[i].holds(pair.data[i])]
    if not news:
        return
    index = telling_rows(pair.data, news)
    some = pair._replace(data=cut(pair.data, positions, index))
    missing = {names[i]: why for i in news if names[i] not in gaps and (why := not_finite(names[i], pair.data[i]))}
    gone = [~rows_and_columns(pair.data[i]).isfinite().all(1) for i in news if names[i] in missing]
    named = torch.stack(gone).any(0).nonzero().flatten() if gone else index
    try:
        with pyro.validation_enabled(False):
            if missing:
                refuse_gaps(some, missing)
        named = index
        at_other_draws(lambda seed: _refuse(some, list(names), seed))
    except (ValueError, IndexError) as error:
        named = named if gone else _refused_alone(pair, positions, index, list(names))
        rows = sorted(numbers[named.to(numbers.device)].tolist())
        which = "one of its rows" if len(rows) > 1 else "row"
        shown = ", ".join(f"{row:,}" for row in rows[:5])
        raise OtherRows(
            f"{error} (a later window of the data; it is {which} {shown}{', ...' * (len(rows) > 5)})"
        ) from error
    gaps.update(missing)
    known.update({i: known_of(pair.data[i], known[i]) for i in news})


def _refuse(pair: Pair, names: list[str], seed: int) -> None:
    with noise(seed), torch.no_grad():
        refuse_values(pair.model, pair.guide, pair.data, names)


def _refused_alone(pair: Pair, positions: Sequence[int], index: torch.Tensor, names: list[str]) -> torch.Tensor:
    """Those of these rows that are refused by themselves; all of them where none is, or each: then it tells nothing."""
    bad = torch.zeros(len(index), dtype=torch.bool)
    for k in range(len(index)):
        try:
            with pyro.validation_enabled(False):
                _refuse(pair._replace(data=cut(pair.data, positions, index[k : k + 1])), names, 0)
        except Exception:  # of any kind: the pair may not run on one row
            bad[k] = True
    return index if bad.all() or not bad.any() else index[bad]


def _parts(value: torch.Tensor) -> Iterator[torch.Tensor]:
    """The rows of an argument, shape (rows, columns), a few at a time."""
    value = rows_and_columns(value)
    if value.shape[1]:
        yield from value.split(max(1, CHUNK // value.shape[1]))


def _range(part: torch.Tensor, columns: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(The smallest, the largest) number of each column, or of all; NaN where one is."""
    part = part if part.is_floating_point() else part.to(torch.int64)
    if not columns or part.shape[1] > COLUMNS:
        low, high = torch.aminmax(part)
    else:
        low, high = torch.aminmax(part.T.contiguous(), dim=1)
    return low.double(), high.double()


def _adds_up(part: torch.Tensor, total: float) -> bool:
    return bool(((part.sum(1) - total).abs() <= SAME * max(1.0, abs(total))).all())
