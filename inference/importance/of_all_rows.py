"""What all rows say of a fit that read them by windows, where the user gives them once more.

They must be as many as the run read. They are read by chunks again, or, where memory holds them, taken whole.
"""

import dataclasses
import math
from typing import Any

import torch

from ..inputs.arguments import arguments
from ..inputs.call import argument_names
from ..pair.batches import rows_of
from ..posterior.approximation import dtype_of
from ..runtime.progress import progress_bar
from ..streaming.source import Source, source_of
from .all_rows import thinned
from .correct_fit import Look, with_weighted_draws
from .look_at_all_rows import look_at_all_rows

FEW, APART = 256, 8  # rows on which a look begins, of so many chunks


def seen_of_all_rows(
    fit: Any, data: tuple[Any, ...], *, seconds: float, seed: int = 0, source: Source | None = None
) -> Look | tuple[Any, ...] | str:
    """The look at a fit by all rows; the rows as tensors where memory holds them; in words why they tell nothing.

    source: that of the run itself, at whose end this is, in the place of `data`: no file is opened again. Then no
    progress bar is shown.
    Raises ValueError for other rows than those of the fit, TooLong where the look takes more time.
    """
    if "guide" not in fit.data.free:
        return "its latents belong to rows, or its guide depends on them"
    if source is not None:
        return _looked(fit, source, seconds, seed, shown=False)
    wanted = fit.data.streamed
    source = source_of(fit.model, data, 1, fit.codes)
    if source is None:
        known = (dtype_of(fit), fit.state.device, fit.columns, fit.codes)
        values = arguments(fit.model, data, *known, gaps=None).values
        _refuse_other(rows_of(values)[1], wanted)
        _refuse_shapes(fit, [tuple(getattr(value, "shape", ())[1:]) for value in values])
        return values
    _refuse_other(source.n, wanted)
    shapes = dict(zip(source.rows, source.form.shapes, strict=True))
    _refuse_shapes(fit, [tuple(shapes.get(i, ())) for i in range(len(source.others))])
    return _looked(fit, source, seconds, seed, shown=True)


def _looked(fit: Any, source: Source, seconds: float, seed: int, shown: bool) -> Look | str:
    some = dataclasses.replace(fit, data=_some_rows(fit, source))
    with progress_bar(None, shown, " chunks") as bar:
        return look_at_all_rows(some, source, seconds=seconds, seed=seed, bar=bar)


def corrected_by_all_rows(fit: Any, data: tuple[Any, ...]) -> Any:
    """The fit with weighted draws of the posterior, by all rows, in the place of its guide.

    Raises ValueError where there are none that can be trusted, with the reason.
    """
    seen = seen_of_all_rows(fit, data, seconds=math.inf, seed=fit.seed)
    if isinstance(seen, str):
        found, why = None, seen
    elif isinstance(seen, Look):
        found = seen.correction
        why = seen.unseen if found is None else found.doubt
    else:
        return dataclasses.replace(fit, data=seen).reweighted
    return with_weighted_draws(fit, found, why, "of some of the rows")


def _some_rows(fit: Any, source: Source) -> tuple[Any, ...]:
    """Some of the rows, from chunks all over the data, as the fit has its own."""
    count = len(source.chunks)
    order = sorted({k * (count - 1) // (APART - 1) for k in range(APART)})
    parts = []
    for values in source.stream(order, 0 if source.seeded else None):
        parts.append(thinned(values, FEW // len(order)))
    values = source.given(tuple(torch.cat(each) for each in zip(*parts, strict=True)))
    return arguments(fit.model, values, dtype_of(fit), fit.state.device, gaps=None).values


def _refuse_other(n: int, wanted: int) -> None:
    if n != wanted:
        raise ValueError(f"data: got {n:,} rows, and the fit has {wanted:,}; pass the data that the fit was made of")


def _refuse_shapes(fit: Any, shapes: list[tuple[int, ...]]) -> None:
    """Raises ValueError for rows of other shapes than those of the fit, or another number of arguments."""
    if len(shapes) != len(fit.data):
        raise ValueError(f"data: got {len(shapes)} arguments, and the fit has {len(fit.data)}")
    names = argument_names(fit.model, len(shapes))
    for i in rows_of(fit.data)[0]:
        if shapes[i] != tuple(fit.data[i].shape[1:]):
            raise ValueError(
                f"{names[i]}: got rows of shape {shapes[i]}, and those of the fit have {tuple(fit.data[i].shape[1:])}"
            )
