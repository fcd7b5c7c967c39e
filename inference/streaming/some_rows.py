"""Which rows of many the checks look at: some at random, and all that could be a mistake by themselves.

A label of no class is the largest or the smallest of an argument; a count of 2.5 lies furthest from a whole number;
shares that do not add up to one have the largest or the smallest sum; more successes than trials are the largest
difference of two arguments. So the rows with these extremes are among them, and rows with missing values.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..runtime.generators import noise

MANY = 10_000  # rows that are all looked at
RANDOM = 2048  # rows at random, where there are more
COLUMNS = 64  # of an argument whose extremes are looked for each by itself
MISSING = 32  # rows of an argument with values that are not finite
PAIRS = 4  # arguments whose differences are looked at
CHUNK = 2**18  # numbers that are looked at together


def some_rows(data: Sequence[Any], positions: Sequence[int], size: int) -> torch.Tensor | None:
    """The numbers of the rows that checks look at, ascending; None: all, since they are not many.

    positions: of the arguments that have rows. size: rows of a batch, twice which there are at least.
    """
    n = len(data[positions[0]])
    if n <= max(MANY, 4 * size):
        return None
    with noise(0):
        chance = torch.randperm(n)[: max(RANDOM, 2 * size)]
    return torch.cat([chance, telling_rows(data, positions)]).unique()


def telling_rows(data: Sequence[Any], positions: Sequence[int]) -> torch.Tensor:
    """The numbers of the rows with the extremes of each argument, and of some with missing values; ascending."""
    columns = [rows_and_columns(data[i]) for i in positions if isinstance(data[i], torch.Tensor)]
    vectors = [c for c in columns if c.shape[1] == 1][:PAIRS]
    found = [one for c in columns for one in _of_argument(c)]
    for k, first in enumerate(vectors):
        for second in vectors[:k]:
            found += _extremes(first.double() - second.double())
    return torch.cat([one.cpu() for one in found] or [torch.zeros(0, dtype=torch.long)]).unique()


def rows_and_columns(value: torch.Tensor) -> torch.Tensor:
    """An argument as numbers, shape (rows, columns)."""
    value = value.detach().to_dense() if value.layout is not torch.strided else value.detach()
    value = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    return value.reshape(len(value), -1)


def _of_argument(value: torch.Tensor) -> Iterator[torch.Tensor]:
    """Row numbers of one argument, shape (rows, columns), a few at a time."""
    n, columns = value.shape
    if not columns:
        return
    rows = max(1, CHUNK // columns)
    first = value[:RANDOM]
    whole = not value.is_floating_point() or bool((first == first.round()).double().mean() > 0.5)
    best: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}  # {what: (its largest values, the rows with them)}
    missing: list[torch.Tensor] = []
    for begin in range(0, n, rows):
        part = value[begin : begin + rows]
        if part.is_floating_point() and not part.sum().isfinite():  # a sum that overflows is none either
            if sum(map(len, missing)) < MISSING:
                missing.append(begin + (~part.isfinite()).any(1).nonzero()[:MISSING, 0])
            part = part.nan_to_num(0.0, 0.0, 0.0)
        for what, numbers in _numbers(part.T.contiguous(), whole):
            now = numbers.amax(1)
            before, where = best.get(what, (now, torch.zeros(len(now), dtype=torch.long, device=now.device)))
            larger = now > before if what in best else torch.ones_like(now, dtype=torch.bool)
            if larger.any():
                where[larger] = begin + (numbers[larger] == now[larger, None]).byte().argmax(1)
            best[what] = torch.maximum(now, before), where
    yield from missing
    for _, where in best.values():
        yield where


def _numbers(part: torch.Tensor, whole: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """(What is largest in a row that tells, its value in each row) of a part of an argument, shape (columns, rows).

    whole: whether most values are whole numbers.
    """
    part = part if part.is_floating_point() else part.to(torch.int64)
    each = part if len(part) <= COLUMNS else torch.stack([part.amax(0), part.amin(0)])
    yield "largest", each
    yield "smallest", -each
    if len(part) > 1:
        total = part.sum(0, keepdim=True)
        yield "largest sum", total
        yield "smallest sum", -total
    if whole and part.is_floating_point():
        yield "fraction", (part - part.round()).abs().amax(0, keepdim=True)


def _extremes(values: torch.Tensor) -> list[torch.Tensor]:
    values = values.nan_to_num(0.0, 0.0, 0.0)
    return [values.argmax(0), values.argmin(0)]
