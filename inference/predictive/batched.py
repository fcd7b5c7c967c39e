"""n draws of a prediction: of all rows at once, or batch by batch, the same latents for every batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..inputs.arguments import shown, whole_number
from ..pair.batches import cut, rows_of
from ..pair.pair import Pair
from ..posterior.continued import ContinuedSites
from ..posterior.local_latents import Sources
from ..posterior.prediction import one_prediction
from ..runtime.anew import Anew
from ..runtime.sites import latent
from ..runtime.vectorise import draw_each
from .reduced import Mean, Place, Reduce, Reduced, Values, Whole
from .row_batches import RowBatches, cut_latent, find_batches, one_batch
from .streamed import LARGE, RUNS, SMALL, streamed

Finite = Callable[[poutine.Trace, tuple[Any, ...], RowBatches, slice], Values]


class Memory(NamedTuple):
    """How a prediction is kept small."""

    batch: int | None = None  # rows at once
    reduce: str | Reduce | None = None  # "mean", or a function of the draws of a batch


def memory(batch: Any, reduce: Any) -> Memory:
    """The options, checked. Raises ValueError for another number than one of rows, and for another word than "mean"."""
    if batch is not None:
        batch = whole_number("batch", batch, 1)
    if not (reduce is None or (isinstance(reduce, str) and reduce == "mean") or callable(reduce)):
        raise ValueError(
            f"reduce: got {shown(reduce)}, wanted 'mean' or a function of the draws of a batch, such as "
            f"reduce=lambda draws: draws.std(0)"
        )
    return Memory(batch, reduce)


def predictions(
    pair: Pair,
    values: tuple[Any, ...],
    found: Sources,
    n: int,
    seed: int,
    latents: Callable[[int, int], Values],
    options: Memory,
    names: list[str],
    finite: Finite | None = None,
) -> Values:
    """n draws at these arguments, {site: (n, *shape of the site)}, or what `options.reduce` makes of them.

    pair: on the data of the fit. latents: the draws from number i on, as many as asked for, of `found.kept`. names: of
    the arguments. finite: one draw of what finite latents decide that were summed out, given a trace of the others, the
    arguments of a batch, all batches, and the rows of the batch. Raises ValueError as `find_batches` does.
    """
    result: Whole | Mean | Reduced
    result = Whole(n) if options.reduce is None else Mean(n)
    if callable(options.reduce):
        result = Reduced(n, options.reduce)
    elements = LARGE if options == Memory() else SMALL
    rows = RowBatches((), (slice(0, 0),))
    if options.batch is not None:
        rows = find_batches(pair, values, found, options.batch, names)
    elif callable(options.reduce):
        rows = one_batch(pair, values, found, names)
    if rows.shared:
        latents = partial(_continued, pair, values, found, rows, latents)

    def program(at: slice, point: Values) -> Values:
        given, here = values, found
        kept = {name: value for name, value in point.items() if name != RUNS}
        if len(rows.slices) > 1:
            given = cut(values, rows.arguments, at)
            here = found._replace(arguments=given)
            kept = _cut_to(kept, pair, rows.inside, at)
        drawn, held = one_prediction(pair, given, here, kept)
        return drawn if finite is None else drawn | finite(held, given, rows, at)

    batches = [(partial(program, at), Place(at, rows.n, rows.dims)) for at in rows.slices]
    streamed(n, seed, latents, batches, result, elements)
    return result.result


def _cut_to(kept: Values, pair: Pair, inside: frozenset[str], at: slice) -> Values:
    """The latents of a batch: those of the rows of the fit cut to its rows."""
    n = rows_of(pair.data)[1]
    cuts = {name: cut_latent(value, n, at) if name in inside else value for name, value in kept.items()}
    return {name: value for name, value in cuts.items() if value is not None}


def _continued(
    pair: Pair,
    values: tuple[Any, ...],
    found: Sources,
    rows: RowBatches,
    latents: Callable[[int, int], Values],
    begin: int,
    n: int,
) -> Values:
    """Draws of the latents that all batches share, with those that the model draws, at the first rows."""
    first = cut(values, rows.arguments, list(rows.first))

    def one(kept: Values) -> Values:
        shared = {name: value for name, value in kept.items() if name not in rows.inside and name != RUNS}
        with ContinuedSites(shared, found):
            model = poutine.trace(Anew()(pair.model)).get_trace(*first)
        sites = latent(model)
        return kept | {name: sites[name]["value"] for name in rows.shared}

    return draw_each(one, {**latents(begin, n), RUNS: torch.zeros(n)})
