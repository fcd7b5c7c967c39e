"""A chunk of rows as the tensors of the model's arguments: codes for labels, numbers, the types of the first chunk."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from ..inputs.arguments import UNSIGNED
from ..inputs.columns import as_numbers
from ..inputs.labels import Labels, coded
from .part import NotRead


class Form(NamedTuple):
    """What the chunks of a source have in common."""

    names: Sequence[str]  # of the arguments that have rows
    codes: Labels  # of the labels in all rows
    kinds: tuple[torch.dtype, ...] = ()  # of the tensors
    shapes: tuple[torch.Size, ...] = ()  # of a row


def like_first(first: tuple[Any, ...], values: tuple[Any, ...], rows: slice, more: bool) -> tuple[Any, ...]:
    """The values of these rows, the columns of their tables in the order in which the first rows have them.

    more: whether a table may have columns that the first rows lack, which nobody reads. Raises NotRead for other
    columns, and for more or fewer values.
    """
    place, found = f"data: rows {rows.start:,} to {rows.stop - 1:,}", list(values)
    if len(values) != len(first):
        raise NotRead(f"{place} come in {len(values)} parts, and the first rows in {len(first)}")
    for i, (one, value) in enumerate(zip(first, values, strict=True)):
        if not isinstance(one, pd.DataFrame) or not isinstance(value, pd.DataFrame):
            continue
        if missing := [column for column in one.columns if column not in value.columns]:
            raise NotRead(f"{place} have no column {missing[0]!r}, and the first rows have it")
        if not more and (new := [column for column in value.columns if column not in one.columns]):
            raise NotRead(f"{place} have a column {new[0]!r}, and the first rows have none; leave it out of all rows")
        found[i] = value if value.columns.equals(one.columns) else value[list(one.columns)]
    return tuple(found)


def as_tensors(form: Form, values: tuple[Any, ...], rows: slice) -> tuple[torch.Tensor, ...]:
    """The values of these rows as tensors on the CPU, each in the precision that it has, one for each argument.

    rows: their numbers in the whole data. Raises NotRead, which names the argument and the rows, for labels that are
    none of the form's, for rows of another number, shape or type than the form has, and for what holds no numbers.
    """
    place = f"rows {rows.start:,} to {rows.stop - 1:,}"
    try:
        labelled = coded(form.names, values, form.codes).values
        found = tuple(_tensor(name, value) for name, value in zip(form.names, labelled, strict=True))
    except ValueError as error:
        raise NotRead(f"{error} ({place})") from error
    for i, (name, value) in enumerate(zip(form.names, found, strict=True)):
        if len(value) != rows.stop - rows.start:
            raise NotRead(f"{name}: got {len(value):,} rows where {place} were to be read")
        if form.shapes and value.shape[1:] != form.shapes[i]:
            raise NotRead(
                f"{name}: {place} have shape {tuple(value.shape[1:])} each, and the first rows {tuple(form.shapes[i])}"
            )
    if not form.kinds:
        return found
    pairs = zip(form.names, found, form.kinds, strict=True)
    return tuple(_as_the_first(name, value, kind, place, rows.start) for name, value, kind in pairs)


def refuse_not_finite(name: str, value: torch.Tensor, rows: slice, n: int) -> None:
    """Raises NotRead, which names the row, for NaN or infinity in these rows of an argument. n: rows in all."""
    if not (value.is_floating_point() or value.is_complex()) or torch.isfinite(value.sum()):
        return
    bad = ~torch.isfinite(value.reshape(len(value), -1))
    if not bad.any():  # only the sum was too large
        return
    row, column = bad.nonzero()[0].tolist()
    at = f"row {rows.start + row:,}" + (f", entry {column}" if value.dim() > 1 else "")
    raise NotRead(
        f"{name}: {int(bad.sum()):,} values in rows {rows.start:,} to {rows.stop - 1:,} of {n:,} are not finite, the "
        f"first is {value.reshape(len(value), -1)[row, column].item()} at {at}; drop or fill those rows first"
    )


def _tensor(name: str, value: Any) -> torch.Tensor:
    value = as_numbers(name, value)
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if not isinstance(value, torch.Tensor) or not value.dim():
        raise ValueError(f"{name}: got {type(value).__name__}, wanted an array with a number or more for each row")
    return (value.to(torch.int64) if value.dtype in UNSIGNED else value).detach().cpu()


def _as_the_first(name: str, value: torch.Tensor, kind: torch.dtype, place: str, start: int) -> torch.Tensor:
    """A tensor of the kind that the first rows have, if that loses nothing but digits of floating point.

    place, start: the rows of all that these are, and the number of the first of them.
    """
    if value.dtype == kind:
        return value
    if kind.is_floating_point and not value.is_complex():
        return value.to(kind)
    whole = value if not value.is_floating_point() else None
    if whole is not None and kind == torch.bool and ((whole == 0) | (whole == 1)).all():
        return whole.to(kind)
    if whole is not None and kind == torch.int64:
        return whole.to(kind)
    if whole is None and value.isnan().any():  # pandas and Arrow have no whole number for a missing one
        first = start + int(value.isnan().reshape(len(value), -1).any(1).nonzero()[0])
        raise NotRead(f"{name}: the value of row {first:,} is missing; drop or fill those rows first ({place})")
    raise NotRead(
        f"{name}: {place} hold {value.dtype} where the first rows hold {kind}; give all rows one type, such as float32"
    )
