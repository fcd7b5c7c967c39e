"""Values that are NaN or infinite, and observations of a prediction that are missing altogether."""

from collections.abc import Callable
from typing import Any

import torch

from .call import positional_parameters


def not_finite(name: str, value: torch.Tensor) -> str | None:
    """The message that refuses values that are NaN or infinite; None where all are finite."""
    if not (value.is_floating_point() or value.is_complex()):
        return None
    if value.layout is torch.sparse_coo:
        value = value.coalesce().values()
    elif value.layout is not torch.strided:
        value = value.values()
    bad = ~torch.isfinite(value)
    if not bad.any():
        return None
    where = tuple(bad.nonzero()[0].tolist())
    return (
        f"{name}: {int(bad.sum())} of {value.numel()} values are not finite, the first is {value[where].item()} at "
        f"index {where}; drop or fill those rows first"
    )


def to_be_predicted(model: Callable[..., Any], values: tuple[Any, ...]) -> frozenset[int]:
    """The places of the arguments without a single value, all NaN, which a prediction may leave out.

    They are arguments with the default None, and the last ones of those given; never the first.
    """
    parameters = positional_parameters(model)
    empty = [i for i, v in enumerate(values) if isinstance(v, torch.Tensor) and v.dim() and _all_missing(v)]
    found: set[int] = set()
    for i in reversed(empty):
        last = all(k in found or values[k] is None for k in range(i + 1, len(values)))
        if i and (last or (i < len(parameters) and parameters[i].default is None)):
            found.add(i)
    return frozenset(found)


def _all_missing(value: torch.Tensor) -> bool:
    return value.is_floating_point() and value.layout is torch.strided and bool(value.isnan().all())
