"""Finds the plates over rows, and checks that the density of a row does not depend on the other rows of its batch.

A model that centres its inputs, or whose network has batch norm, fails: the mean over its batches is not the whole.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from pyro import poutine

from ..pair.batches import Rows, batch, rows_of
from ..pair.costs import DATA, GUIDE, Costs, Run, run
from ..pair.pair import Pair, Program, Summed
from ..pair.summed_out import eliminated, enumerating
from ..pair.tables import entry_of_each, find_tables
from ..runtime.generators import noise
from ..runtime.probes import PLACES, at_a_draw, nearly_equal, probing
from ..runtime.sites import drawn_sites, exists_for_some, frames, plates, quoted
from ..runtime.traced import first_line
from .check import check


def find_rows(pair: Pair, size: int, names: list[str], whole: Mapping[str, Any] | None = None) -> Rows:
    """How to cut the data of this pair into batches of `size` rows. names: of the data arguments, for messages.

    whole: {plate: its frame} on all rows, where the pair has been checked on them; None: it runs on them once more.
    Raises ValueError for a size above the number of rows, and for a pair whose batches would be scaled wrongly.
    """
    arguments, n = rows_of(pair.data)
    rows = Rows(arguments, n, size, frozenset())
    if size > n:
        raise ValueError(f"batch_size: got {size}, but {names[arguments[0]]} has {n} rows; wanted at most {n}")
    if size == n:
        return rows
    rows = rows._replace(tables=find_tables(pair, arguments, n))
    other = size - max(1, size // 100) if size > 1 else 2
    with noise(0):  # at random: data may be sorted
        order = torch.randperm(n)
    one, two = (batch(pair, rows, index) for index in (order[:size], order.flip(0).repeat(2)[:other]))
    (sizes, scales), (fewer, others) = (_sizes_and_scales(p, names, n, rows.tables) for p in (one, two))
    longest = _sizes_and_scales(pair, names, n)[0] if whole is None else _sizes(whole)
    plates = _row_plates({size: sizes, other: fewer, n: longest})
    if not plates:
        raise ValueError(
            f"batch_size: no plate of the pair has the size of the rows it is given (plates: {sizes or 'none'}), so "
            f"a batch cannot be scaled to the whole; write pyro.plate('N', len({names[arguments[0]]}))"
        )
    name = next((k for k in scales | others if not _same_scale(scales.get(k), others.get(k))), None)
    if name is not None:
        if name not in scales or name not in others:
            raise ValueError(
                f"batch_size: {exists_for_some(name, 'batches')}; write the plate over rows as one, with "
                f"pyro.plate('N', len(x)), not as a loop"
            )
        raise ValueError(
            f"batch_size: site {name!r} is scaled by the model itself as the batch grows ({scales[name]:.4g} and "
            f"{others[name]:.4g} for {size} and {other} rows); leave that out: the runner scales"
        )
    if (summed := pair.summed) is not None:
        so = "a batch cannot be scaled to the whole"
        guide = poutine.trace(pair.guide).get_trace
        at_a_draw(lambda _: refuse_shared(pair.model, guide(*pair.data), pair.data, summed, plates, so))
    _refuse_outside_rows(one, two, plates)
    if (several := min(max(5, size), n - 1)) > 1:
        # A row may depend on all others, on those before or behind it, or on the first or the last one.
        places = [0, several // 2, several - 1] if several >= 5 else [several // 2]
        changed = order[:several].clone()
        changed[places] = order[several:].repeat(3)[: len(places)]
        refuse_coupled_rows(batch(pair, rows, order[:several]), batch(pair, rows, changed), plates, several, places)
    return rows._replace(plates=plates)


def _same_scale(one: float | None, other: float | None) -> bool:
    """Whether two scales are equal up to rounding; the batches differ by far more, 1/100 of their rows."""
    return one == other if one is None or other is None else math.isclose(one, other, rel_tol=1e-5)


def _row_plates(sizes_of: dict[int, dict[str, int]]) -> frozenset[str]:
    """The names of the plates that grow with the rows. sizes_of: {number of rows: {plate: its size}}.

    Raises ValueError for a plate that does not grow in proportion: N / B would be the wrong scale for it.
    """
    found = set()
    for name in sorted(set.intersection(*(set(sizes) for sizes in sizes_of.values()))):
        length = {n: sizes[name] for n, sizes in sizes_of.items()}
        if len(set(length.values())) == 1 and len(length) > 1:
            continue
        rows, first = next(iter(length.items()))
        if any(size * rows != first * n for n, size in length.items()):
            shown = ", ".join(f"{size} for {n} rows" for n, size in sorted(length.items()))
            raise ValueError(
                f"batch_size: plate {name!r} does not grow in proportion to the rows ({shown}), so no scale makes a "
                f"batch an estimate of the whole; give its size as an argument, or leave out batch_size"
            )
        found.add(name)
    return frozenset(found)


def _sizes_and_scales(
    pair: Pair, names: list[str], n: int, tables: frozenset[str] = frozenset()
) -> tuple[dict[str, int], dict[str, float]]:
    """({plate: its size}, {site: its scale}) on a batch. An error of the pair gets a note about the batch."""
    length = rows_of(pair.data)[1]
    try:
        guide, model = at_a_draw(lambda number: _checked(pair, names, number))
    except Exception as error:
        if why := entry_of_each(n, length, tables):
            raise ValueError(f"batch_size: {why}") from error
        if isinstance(error, RuntimeError) and "size" in str(error):
            raise ValueError(
                f"batch_size: the pair does not run on {length} of the {n} rows ({first_line(error)}): it holds "
                f"something with an entry for each row, from outside of its data. Pass that as an argument too, or "
                f"leave out batch_size where the rows have one joint distribution"
            ) from error
        error.add_note(f"credo: raised on a batch of {length} of the {n} rows")
        raise
    scales = {}
    for trace in (guide, model):
        for name, site in trace.nodes.items():
            if site["type"] == "sample":
                scale = torch.as_tensor(site["scale"])
                scales[name] = scale.item() if scale.dim() == 0 else 1.0  # or the user's weight for each row
    return _sizes(frames(guide, model)), scales


def _sizes(found: Mapping[str, Any]) -> dict[str, int]:
    """{plate: its size}. Raises ValueError for a plate that the pair subsamples itself. found: {plate: its frame}."""
    for name, frame in found.items():
        if frame.full_size is not None and frame.full_size > frame.size:
            raise ValueError(
                f"batch_size: plate {name!r} is subsampled by the pair itself ({frame.size} of {frame.full_size}); "
                f"use one of the two"
            )
    return {name: frame.size for name, frame in found.items()}


def _checked(pair: Pair, names: list[str], seed: int) -> tuple[poutine.Trace, poutine.Trace]:
    """Traces of the guide and of the model on a batch, which is checked."""
    with noise(seed), torch.no_grad():
        check(pair.model, pair.guide, pair.data, names, whole=False)
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
        return guide, poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data)


def _refuse_outside_rows(one: Pair, two: Pair, plates: frozenset[str]) -> None:
    """Raises ValueError for a site outside the plates over rows whose density depends on which rows are given."""
    for off in PLACES:
        at_a_draw(partial(_refuse_outside_rows_here, one, two, plates, off))


def _refuse_outside_rows_here(one: Pair, two: Pair, plates: frozenset[str], off: float, seed: int) -> None:
    with noise(seed), probing(tuple(one), off):
        z, _, where, _, _ = run(one)
        shared = {name: v for name, v in z.items() if name not in plates and not where[GUIDE, name] & plates}
        costs = run(one, shared).costs
        there = {
            name: site["value"].shape
            for name, site in drawn_sites(poutine.trace(two.guide).get_trace(*two.data)).items()
        }
        for name, value in shared.items():
            if there.get(name) != value.shape:
                raise ValueError(
                    f"batch_size: site {name!r} (in the guide) stands outside the plate over rows "
                    f"({', '.join(sorted(plates))}) and has shape {tuple(value.shape)} or {tuple(there[name])} by the "
                    f"number of rows; put it into the plate, or leave out batch_size"
                )
        others = run(two, shared).costs
    if not any(side == DATA and where[side, name] & plates for side, name in costs):
        names = sorted(name for side, name in costs if side == DATA)
        raise ValueError(
            f"batch_size: no observed site ({', '.join(names)}) stands in a plate over the rows, so a batch cannot be "
            f"scaled to the whole; put it into pyro.plate('N', len(x))"
        )
    for (side, name), cost in costs.items():
        if twice := sorted(where[side, name] & plates)[:2]:
            if len(twice) == 2:
                raise ValueError(
                    f"batch_size: site {name!r} stands in two plates over rows ({', '.join(twice)}): of N^2 pairs a "
                    f"batch has B^2, which N / B does not scale; leave out batch_size"
                )
            continue
        other = others[side, name]
        if cost.shape != other.shape or not torch.allclose(cost, other, rtol=1e-5, atol=1e-6, equal_nan=True):
            raise ValueError(
                f"batch_size: site {name!r} ({'in the guide' if side == GUIDE else 'in the model'}) stands outside the "
                f"plate over rows ({', '.join(sorted(plates))}) and depends on which rows are given, so a batch is no "
                f"estimate of the whole; put it into the plate, or leave out batch_size"
            )


def refuse_coupled_rows(one: Pair, two: Pair, plates: frozenset[str], size: int, places: list[int]) -> None:
    """Raises ValueError for a site whose density of a row depends on the other rows: by batch norm, say.

    one, two: batches of `size` rows that differ at these places alone. plates: the plates over rows. Both are scored at
    the same latents, at the parameters and a little off.
    """
    same = torch.tensor([i for i in range(size) if i not in places])
    for off in PLACES:
        found, others = at_a_draw(partial(_at_same_latents, one, two, off))
        for (side, name), cost in found.costs.items():
            dims = [d for d, length in enumerate(cost.shape) if length == size]
            if not found.plates[side, name] & plates or not dims:
                continue
            here = same.to(cost.device)
            if not any(
                nearly_equal(cost.index_select(d, here), others[side, name].index_select(d, here)) for d in dims
            ):
                raise ValueError(
                    f"batch_size: site {name!r}: the density of a row depends on the other rows of its batch, so a "
                    f"batch is no estimate of the whole; prepare the data beforehand (x - x.mean()), take LayerNorm "
                    f"for batch norm, or leave out batch_size"
                )


def _at_same_latents(one: Pair, two: Pair, off: float, seed: int) -> tuple[Run, Costs]:
    """(A run on one batch, the costs of the other at its latents)."""
    with probing(tuple(one), off):
        with noise(seed):
            held = run(one).z
        with noise(seed):
            found = run(one, held)
        with noise(seed):
            return found, run(two, held).costs


def refuse_shared(
    model: Program, guide: poutine.Trace, data: tuple[Any, ...], summed: Summed, over: frozenset[str], so: str
) -> None:
    """Raises ValueError for a summed site that rows share: it stands outside a plate over rows that it reaches into.

    guide: a trace of it. over: the plates over rows. so: the consequence, for the message.
    """
    with torch.no_grad():
        trace = poutine.trace(poutine.replay(enumerating(model, summed), trace=guide)).get_trace(*data)
        trace.compute_log_prob()
    for group in eliminated(trace, summed):
        within = [name for name in group.sites if plates(trace.nodes[name]) & over]
        if within and not group.plates & over:
            apart = [name for name in group.sites if name in summed.sites and name not in within]
            raise ValueError(
                f"{quoted(apart)}: summed out of the model, outside of the plate over rows ({', '.join(sorted(over))}) "
                f"that holds {quoted(within)}, so {so}; put it into the plate, or sample it in the guide"
            )
