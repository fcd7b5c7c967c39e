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
from ..runtime.progress import progress_bar
from ..streaming.source import Source, source_of
from .correct_fit import Look, with_weighted_draws
from .look_at_all_rows import look_at_all_rows

FEW, APART = 256, 8  # rows on which a look begins, of so many chunks


def seen_of_all_rows(fit: Any, data: tuple[Any, ...], *, seconds: float, seed: int = 0) -> Look | tuple[Any, ...] | str:
    """The look at a fit by all rows; the rows as tensors where memory holds them; in words why they tell nothing.

    Raises ValueError for other rows than those of the fit, TooLong where the look takes more time.
    """
    if "guide" not in fit.data.free:
        return "its latents belong to rows, or its guide depends on them"
    wanted = fit.data.streamed
    source = source_of(fit.model, data, 1, fit.codes)
    if source is None:
        known = (_dtype(fit), fit.state.device, fit.columns, fit.codes)
        values = arguments(fit.model, data, *known, gaps=None).values
        _refuse_other(rows_of(values)[1], wanted)
        _refuse_shapes(fit, [tuple(getattr(value, "shape", ())[1:]) for value in values])
        return values
    _refuse_other(source.n, wanted)
    shapes = dict(zip(source.rows, source.form.shapes, strict=True))
    _refuse_shapes(fit, [tuple(shapes.get(i, ())) for i in range(len(source.others))])
    some = dataclasses.replace(fit, data=_some_rows(fit, source))
    with progress_bar(None, True, " chunks") as bar:
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
    if found is None or why:
        raise ValueError(
            f"corrected: no weighted draws of the posterior can be trusted here ({why}); take draws of the posterior "
            f"of some of the rows, credo.reference(model, *data)"
        )
    return with_weighted_draws(fit, found)


def _some_rows(fit: Any, source: Source) -> tuple[Any, ...]:
    """Some of the rows, from chunks all over the data, as the fit has its own."""
    count = len(source.chunks)
    order = sorted({k * (count - 1) // (APART - 1) for k in range(APART)})
    parts = []
    for values in source.stream(order, 0 if source.seeded else None):
        step = max(1, len(values[0]) // (FEW // len(order)))
        parts.append([value[::step][: FEW // len(order)] for value in values])
    values = source.given(tuple(torch.cat(each) for each in zip(*parts, strict=True)))
    return arguments(fit.model, values, _dtype(fit), fit.state.device, gaps=None).values


def _dtype(fit: Any) -> torch.dtype:
    """The precision of the data of a fit."""
    found = (v.dtype for v in fit.data if isinstance(v, torch.Tensor) and v.is_floating_point())
    return next(found, torch.get_default_dtype())


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
