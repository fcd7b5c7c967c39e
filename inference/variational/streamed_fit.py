"""The fit of data that do not fit into memory: it keeps a few of the rows, and knows what they do not tell.

A posterior given these rows would be another one, and latents of the rows would be theirs. So what depends on the rows
of the fit is refused (`storage/absent.py`), and what has the same answer with other rows in their place is given.
"""

import math
import warnings
from collections.abc import Collection
from dataclasses import replace

import torch

from ..pair.batches import cut
from ..posterior.approximation import pair_of
from ..posterior.sample import beyond_the_guide
from ..posterior.verdict import UNKNOWN, Verdict
from ..runtime.sites import latent, plates
from ..runtime.state import reading
from ..runtime.traced import traced
from ..storage.absent import Absent, free_of
from .result import Fit
from .saved import asked_of

AGAIN = "credo.check(fit, *data) looks at all rows"
FEW = 256  # rows that a fit keeps
NEW = 8  # rows of a prediction that is asked for


def with_some_rows(fit: Fit, positions: tuple[int, ...], total: int, over: Collection[str]) -> Fit:
    """The fit, of `total` rows, with a few of the rows at hand in the place of its data.

    positions: of the arguments that have rows. over: the plates over rows.
    """
    n = len(fit.data[positions[0]])
    few = min(FEW, n // 2)
    one, two, new = (
        cut(fit.data, positions, torch.arange(begin, begin + count) % n)
        for begin, count in ((0, few), (few, few), (2 * few, min(NEW, few)))
    )
    data = Absent(one)
    data.streamed = total
    found = replace(fit, data=one)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            free = free_of(asked_of(found), one, two, new)
            data.free = free - (set() if not _of_rows(found, over) else {"guide", "sample", "summary"})
    except Exception:  # of the user's program, on few rows: then nothing is known to be free of them
        data.free = frozenset()
    return replace(fit, data=data)


def unknown_of_windows(rows: int) -> Verdict:
    """The verdict on a fit to so many rows that the run read by windows, and of which the fit has few."""
    return Verdict(UNKNOWN, math.nan, (f"no look has seen its {rows:,} rows, which the run read by windows",), AGAIN)


def _of_rows(fit: Fit, over: Collection[str]) -> bool:
    """Whether a latent or a deterministic site belongs to rows."""
    with reading(fit.state, 0), torch.no_grad():
        sites = [*latent(traced(fit.guide, pair_of(fit).data)).values(), *beyond_the_guide(fit).values()]
    return any(plates(site) & set(over) for site in sites)
