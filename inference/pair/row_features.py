"""The data of a row as numbers that a network reads: standardised, categories as indicators, gaps as zeros.

    u = clip((x - centre) / scale, -10, 10)      each column, by constants of the data that a guide sees first
    asinh(x / unit), standardised                columns with heavy tails besides, such as counts
    1[x = c]                                     each value c of a column of whole numbers with few values
    1[x is missing]                              columns with gaps, which are 0 in u

The constants are those of the first data, at most MOST rows of it, and stay: a row has the same numbers in any batch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ..runtime.generators import noise

MOST = 10_000  # rows that the constants are computed from
FAR = 10.0  # sds beyond which a number is clipped
HEAVY = 5.0  # sds: a column with values so far out has heavy tails
WIDE = 64  # columns of an argument, above which tails are clipped only: pixels
CATEGORIES = 100  # values of a column of whole numbers, up to which each gets an indicator


class Reading(NamedTuple):
    """How the rows of one argument are read, flattened to F columns. All are tensors: a file keeps them."""

    position: int  # of the argument
    centre: torch.Tensor  # (F,)
    scale: torch.Tensor  # (F,)
    heavy: torch.Tensor  # (H,) columns with heavy tails
    unit: torch.Tensor  # (H,)
    middle: torch.Tensor  # (H,) of asinh(x / unit)
    spread: torch.Tensor  # (H,)
    gaps: torch.Tensor  # (G,) columns with missing values
    coded: torch.Tensor  # (C,) the column of each indicator
    values: torch.Tensor  # (C,) its value

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return sum(len(part) for part in (self.centre, self.heavy, self.gaps, self.values))


def readings(data: Sequence[Any], positions: Sequence[int], dtype: torch.dtype) -> tuple[Reading, ...]:
    """How to read the rows of the arguments at these positions; dtype: of the numbers."""
    return tuple(_reading(position, data[position], dtype) for position in positions)


def features(reads: Sequence[Reading], data: Sequence[Any]) -> torch.Tensor:
    """The rows of the data as numbers, shape (rows, the sum of the widths).

    Raises ValueError for an argument that is no tensor with rows of the same columns as the first data.
    """
    return torch.cat([_numbers(one, data) for one in reads], -1)


def _reading(position: int, value: torch.Tensor, dtype: torch.dtype) -> Reading:
    whole = not value.is_floating_point() and value.dtype != torch.bool
    x = _columns(_some(value), dtype)
    known = x.isfinite()
    count = known.sum(0).clamp(min=1)
    zero = x.new_zeros(())
    centre = torch.where(known, x, zero).sum(0) / count
    scale = _positive((torch.where(known, x - centre, zero).square().sum(0) / count).sqrt())
    far = torch.where(known, (x - centre) / scale, zero).abs().amax(0)
    is_heavy = (far > HEAVY) & torch.tensor(x.shape[1] <= WIDE, device=x.device)
    heavy = is_heavy.nonzero()[:, 0]
    unit, middle, spread = (x.new_ones(len(heavy)) for _ in range(3))
    for k, column in enumerate(heavy.tolist()):
        of_column = x[known[:, column], column]
        sizes = of_column.abs()
        unit[k] = sizes[sizes > 0].quantile(0.1)
        bent = torch.asinh(of_column / unit[k])
        middle[k], spread[k] = bent.mean(), _positive(bent.std(correction=0))
    pairs = [(c, v) for c in range(x.shape[1]) for v in _categories(x[:, c])] if whole else []
    return Reading(
        position,
        *(centre, scale, heavy, unit, middle, spread),
        gaps=(~known).any(0).nonzero()[:, 0],
        coded=torch.tensor([c for c, _ in pairs], dtype=torch.long, device=x.device),
        values=torch.tensor([v for _, v in pairs], dtype=dtype, device=x.device),
    )


def _numbers(one: Reading, data: Sequence[Any]) -> torch.Tensor:
    value = data[one.position] if one.position < len(data) else None
    if not isinstance(value, torch.Tensor) or not value.dim() or value[:1].numel() not in (0, len(one.centre)):
        got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(
            f"guide='amortised': its network reads argument {one.position + 1} of the model, {len(one.centre)} numbers "
            f"a row; got {got}"
        )
    if one.centre.device != value.device:  # of a file
        one = Reading(one.position, *(part.to(value.device) for part in one[1:]))
    x = _columns(value, one.centre.dtype)
    known = x.isfinite()
    parts = [torch.where(known, ((x - one.centre) / one.scale).clamp(-FAR, FAR), 0.0)]
    if len(one.heavy):
        bent = (torch.asinh(x[:, one.heavy] / one.unit) - one.middle) / one.spread
        parts.append(torch.where(known[:, one.heavy], bent, 0.0))
    if len(one.gaps):
        parts.append((~known[:, one.gaps]).to(x.dtype))
    if len(one.values):
        parts.append((x[:, one.coded] == one.values).to(x.dtype))
    return torch.cat(parts, -1)


def _columns(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.reshape(len(value), -1).to(dtype)


def _some(value: torch.Tensor) -> torch.Tensor:
    """At most MOST rows at random."""
    if len(value) <= MOST:
        return value
    with noise(0):
        return value[torch.randperm(len(value))[:MOST].to(value.device)]


def _categories(column: torch.Tensor) -> list[float]:
    """The values of a column of whole numbers, if they are more than two and no more than CATEGORIES."""
    values = column.unique()
    return values.tolist() if 2 < len(values) <= CATEGORIES else []


def _positive(scale: torch.Tensor) -> torch.Tensor:
    """Scales, where those of constant columns are 1."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))
