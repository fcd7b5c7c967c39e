"""Whether the rows of a prediction can be drawn batch by batch, and which sites have rows.

The model runs on k rows, on the same rows with one more before or behind them, and on all rows at once. At the same
latents, each row must keep its density and its deterministic values; a site has rows where its value grows by one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from ..pair.batches import cut, rows_of
from ..pair.pair import Pair
from ..posterior.local_latents import Sources
from ..posterior.prediction import kept_latents
from ..posterior.row_sites import RowSites, find_row_sites
from ..preflight.rows import refuse_shared
from ..runtime.vectorise import at_once
from .row_runs import REMEDY, Grown, OfRows, Sites, compare, dims_of_rows, is_drawn, run_on_rows

MOST = 2**22  # numbers of the largest tensor of a run on all rows
LOOKS = 64  # batches that are compared with all rows
COLUMNS = 64  # of an argument whose extremes are looked for


class RowBatches(NamedTuple):
    """How a prediction is cut into batches of rows."""

    arguments: tuple[int, ...]  # the positions of the arguments that are cut
    slices: tuple[slice, ...]  # the rows of each batch
    n: int = 0  # rows in all
    dims: Mapping[str, int] = {}  # {site: the dimension of its value that holds the rows}
    shared: frozenset[str] = frozenset()  # latents of all rows that the model draws, or continues
    inside: frozenset[str] = frozenset()  # latents of the guide that belong to the rows of the fit
    first: tuple[int, ...] = ()  # the rows at which the model draws the shared latents


def find_batches(pair: Pair, values: tuple[Any, ...], found: Sources, size: int, names: list[str]) -> RowBatches:
    """The batches of `size` rows of a prediction at these values. pair: on the data of the fit. names: of arguments.

    Raises ValueError for rows that depend on each other, for sites that exist for some batches only, and for arguments
    with different numbers of rows.
    """
    arguments, n = _arguments(pair, values, names)
    if size >= n:
        return one_batch(pair, values, found, names)
    own = _row_sites(pair) if found.kept else RowSites()
    for name in sorted(found.first.keys() | (own.joint & found.kept)):
        raise ValueError(f"site {name!r}: one joint draw of all rows, {REMEDY}")
    found = found._replace(along=own.along)
    kept = {name: value for name, value in kept_latents(pair, found).items() if name not in own.inside}
    run = _Runs(pair, values, arguments, found, n)
    rows = list(range(size))
    traces = [run(kept, rows)]
    dims: dict[str, int] = {}
    for at, index in ((1, [size, *rows]), (0, [*rows, size])):
        traces.append(run(kept, index, Grown(_values(traces[0]), size, at)))
        dims = dims_of_rows(traces[0], traces[-1], size)
        compare(traces[0], traces[-1], dims, range(at, at + size), size + 1, kept.keys())
    if pair.summed is not None:
        frames = [{f.name: f.size for s in t.values() for f in s["cond_indep_stack"]} for t in traces[:2]]
        over = frozenset(name for name, length in frames[0].items() if frames[1].get(name) != length)
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
        refuse_shared(pair.model, guide, pair.data, pair.summed, over, "rows cannot be drawn apart; leave out batch=")
    first = sorted({*rows, *_extremes(values, arguments)})
    shared = _compare_with_all(run, kept, dims, first, size)
    slices = tuple(slice(begin, min(begin + size, n)) for begin in range(0, n, size))
    return RowBatches(arguments, slices, n, dims, shared, own.inside & found.kept, tuple(first))


def one_batch(pair: Pair, values: tuple[Any, ...], found: Sources, names: list[str]) -> RowBatches:
    """All rows at once, with the dimensions of the rows, where a run with one more row shows them; see `find_batches`.

    The last row is repeated. Sites have no such dimension where the model does not run so.
    """
    try:
        arguments, n = _arguments(pair, values, names)
    except ValueError:  # no argument has rows
        return RowBatches((), (slice(0, 0),))
    whole = RowBatches(arguments, (slice(0, n),), n)
    if found.first or n == 0:
        return whole
    try:
        own = _row_sites(pair) if found.kept else RowSites()
        found = found._replace(along=own.along)
        kept = {name: value for name, value in kept_latents(pair, found).items() if name not in own.inside}
        run = _Runs(pair, values, arguments, found, n)
        return whole._replace(dims=dims_of_rows(run(kept, [*range(n)]), run(kept, [*range(n), n - 1]), n))
    except Exception:  # of the user's program
        return whole


class _Runs(NamedTuple):
    """Runs of a prediction on some of its rows."""

    pair: Pair
    values: tuple[Any, ...]
    arguments: tuple[int, ...]
    found: Sources
    n: int

    def __call__(
        self, kept: Mapping[str, torch.Tensor], rows: Sequence[int], held_rows: Messenger | None = None
    ) -> Sites:
        given = cut(self.values, self.arguments, list(rows))
        return run_on_rows(self.pair, given, self.found, kept, len(rows), self.n, held_rows)


def _compare_with_all(
    run: _Runs, kept: Mapping[str, torch.Tensor], dims: Mapping[str, int], first: Sequence[int], size: int
) -> frozenset[str]:
    """The latents that the model draws for all rows, after a comparison of batches with all rows at once.

    So a maximum over the rows and groups that are counted, int(g.max()) + 1, are found. Where all rows do not fit into
    memory, the first rows and as many others as do are compared. Raises ValueError for batches that differ.
    """
    of_first = run(kept, first)
    drawn = {k: s["value"] for k, s in of_first.items() if k not in dims and is_drawn(s, kept.get(k))}
    held = {**kept, **drawn}
    most = max(2, at_once(lambda: [run(kept, range(size))][:0], MOST)) * size
    step = -(-run.n // most)
    some = list(range(run.n)) if step == 1 else sorted({*first, *range(0, run.n, step)})
    together = run(held, some)
    compare(
        {k: s for k, s in of_first.items() if k not in dims},
        {k: s for k, s in together.items() if k not in dims},
        *({}, first, len(some), ()),
    )
    batches = range(0, len(some), size)
    for begin in batches[:: -(-len(batches) // LOOKS)]:
        index = range(begin, min(begin + size, len(some)))
        batch = run(held, [some[i] for i in index], OfRows(_values(together), dims, index))
        compare(batch, together, dims, index, len(some), kept.keys())
    return frozenset(drawn)


def _extremes(values: tuple[Any, ...], arguments: tuple[int, ...]) -> set[int]:
    """The rows with the largest and the smallest number of the first columns of each argument."""
    found: set[int] = set()
    for value in (values[i] for i in arguments):
        if isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_complex():
            columns = value.reshape(len(value), -1)[:, :COLUMNS]
            columns = columns.byte() if columns.dtype == torch.bool else columns
            found |= {*columns.argmax(0).tolist(), *columns.argmin(0).tolist()} if columns.numel() else set()
    return found


def _values(sites: Sites) -> dict[str, torch.Tensor]:
    return {name: site["value"] for name, site in sites.items()}


def _row_sites(pair: Pair) -> RowSites:
    guide = poutine.trace(pair.guide).get_trace(*pair.data)
    return find_row_sites(pair, guide, poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data))


def cut_latent(value: torch.Tensor, n: int, rows: slice) -> torch.Tensor | None:
    """The rows of a latent that has an entry for each of n rows; None if there are none left.

    Raises ValueError where it is not clear which dimension holds the rows.
    """
    dims = [d for d, size in enumerate(value.shape) if size == n]
    if len(dims) != 1:
        raise ValueError(
            f"batch: a latent of the rows has shape {tuple(value.shape)}, in which the dimension of the {n} rows is "
            f"not clear; leave out batch="
        )
    begin, end = min(rows.start, n), min(rows.stop, n)
    return value.narrow(dims[0], begin, end - begin) if end > begin else None


def _arguments(pair: Pair, values: tuple[Any, ...], names: list[str]) -> tuple[tuple[int, ...], int]:
    """(the positions of the arguments with rows, the number of rows), as the fit's data has them."""
    tensors = [i for i, v in enumerate(values) if isinstance(v, torch.Tensor) and v.dim() > 0]
    with_rows = rows_of(pair.data)[0] if any(isinstance(v, torch.Tensor) and v.dim() for v in pair.data) else ()
    found = [i for i in with_rows if i in tensors]
    if not found:
        raise ValueError("batch: no argument of the prediction has rows, as one of the fit has; leave out batch=")
    lengths = {names[i]: len(values[i]) for i in found}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"batch: the arguments have different numbers of rows ({shown}); give each the same rows")
    n = len(values[found[0]])
    news = [i for i in tensors if i not in found and len(values[i]) == n]
    added = [i for i in news if i >= len(pair.data) or not isinstance(pair.data[i], torch.Tensor)]
    return tuple(sorted(found + added)), n
