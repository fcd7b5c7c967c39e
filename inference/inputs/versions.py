"""Whether data are the very objects of a call before, unchanged in place."""

from collections.abc import Sequence
from typing import Any

import torch

Versions = list[tuple[Any, int]]  # each argument with the number of changes in place that it has seen


def versions(data: Sequence[Any]) -> Versions:
    """Each argument with the number of changes in place that it has seen; -1 where nothing counts them."""
    return [(v, v._version if isinstance(v, torch.Tensor) else -1) for v in data]


def unchanged(data: Sequence[Any], before: Versions) -> bool:
    """Whether these are the data of `before` with the same values: tensors and networks, no array or table."""
    now = versions(data)
    known = all(v is None or isinstance(v, torch.Tensor | torch.nn.Module | int | float | str) for v in data)
    return (
        known
        and len(now) == len(before)
        and all(one is other and version == seen for (one, version), (other, seen) in zip(now, before, strict=True))
    )
