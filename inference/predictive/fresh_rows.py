"""Rows for prior predictive draws where a model reads nothing but their number from its data.

The rows of the fit are repeated to the number wanted. Their values must not matter: at many draws of the latents,
nothing that is drawn is computed from them, and other values with the same noise give the same draws.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch

from ..inputs.arguments import whole_number
from ..pair.batches import rows_of
from ..pair.pair import Pair
from ..posterior.local_latents import Sources
from ..posterior.prediction import one_prediction
from ..runtime.generators import noise
from .derived import derived

TRIES, FEW = 20, 3  # draws of the latents at which values are followed, and replaced


def with_rows(
    pair: Pair, values: tuple[Any, ...], new: tuple[Any, ...], rows: Any, prior: bool, names: Sequence[str]
) -> tuple[Any, ...]:
    """The arguments of a prior predictive of so many rows. pair: on the data of the fit.

    new: what was passed; the other arguments are those of the fit. Raises ValueError where the draws depend on the
    values of an argument with rows, which must then be passed.
    """
    rows = whole_number("rows", rows, 1)
    if not prior:
        raise ValueError("rows: goes with prior=True; pass the new data itself for a posterior predictive")
    if not any(isinstance(v, torch.Tensor) and v.dim() > 0 for v in pair.data):
        raise ValueError("rows: no argument of the fit has rows; leave out rows=")
    given = {i for i, value in enumerate(new) if value is not None}
    left = tuple(None if i in given else value for i, value in enumerate(pair.data))
    some = any(isinstance(v, torch.Tensor) and v.dim() > 0 for v in left)
    made, n = rows_of(left) if some else ((), rows_of(pair.data)[1])
    for i in sorted(given):
        if i < len(pair.data) and _rows(pair.data[i]) == n and _rows(new[i]) not in (None, rows):
            raise ValueError(f"rows: got {rows}, but {names[i]} has shape {tuple(new[i].shape)}; leave out rows=")
    index = torch.arange(rows) % n
    filled = {i: pair.data[i][index.to(pair.data[i].device)] for i in made}
    others = [value if i in given or i >= len(pair.data) else pair.data[i] for i, value in enumerate(values)]
    whole = tuple(filled.get(i, value) for i, value in enumerate(others))
    for i in made:
        if _matters(pair, whole, i):
            raise ValueError(
                f"rows: the model computes with the values of {names[i]}, so {rows} rows of it are needed; pass them "
                f"in the place of rows=: predict(n, ..., prior=True)"
            )
    return whole


def _rows(value: Any) -> int | None:
    return len(value) if isinstance(value, torch.Tensor) and value.dim() > 0 else None


def _matters(pair: Pair, values: tuple[Any, ...], i: int) -> bool:
    """Whether a prior predictive draw depends on the values of this argument, or on their order, at some latents."""

    def drawn(value: torch.Tensor) -> dict[str, torch.Tensor]:
        here = tuple(value if k == i else v for k, v in enumerate(values))
        return one_prediction(pair, here, Sources(here)).drawn

    for seed in range(TRIES):
        with noise(seed):
            found, marks = derived(drawn, values[i])
        if marks.holds(found.values()):
            return True
    moved = values[i].roll(1, 0)
    others = [moved, 1.5 * moved + 0.5 if moved.is_floating_point() else moved.flip(0)]
    for seed, other in product(range(FEW), others):
        with noise(seed):
            before = drawn(values[i])
        try:
            with noise(seed):
                after = drawn(other)
        except Exception:  # of the user's program, which does not take these values
            return True
        if not _equal(before, after):
            return True
    return False


def _equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(
        one[name].shape == two[name].shape and torch.allclose(one[name], two[name], rtol=0, atol=0, equal_nan=True)
        for name in one
    )
