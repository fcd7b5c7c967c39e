"""Indexing by a single integer tensor k, as a gather. torch reads the value of k in Python, which prevents recording.

x[k] = x[k.reshape(1)][0]        the same value and gradient as torch's own, and k stays a tensor
"""

from collections.abc import Callable
from types import EllipsisType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8)


class GatherIndices(TorchFunctionMode):
    """Inside this mode, `x[k]` with a single integer tensor k is a gather."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__getitem__ and not kwargs:
            return _gathered(*args)
        return func(*args, **(kwargs or {}))


def _gathered(x: torch.Tensor, index: Any) -> torch.Tensor:
    parts = list(index) if isinstance(index, tuple) else [index]
    if not any(map(_is_single, parts)) or any(_is_mask(part) for part in parts):
        return x[index]
    dim, named = 0, sum(part is not None and not isinstance(part, EllipsisType) for part in parts)
    for i, part in enumerate(parts):
        if part is None:
            continue
        if isinstance(part, EllipsisType):
            dim += x.dim() - named
            continue
        if _is_single(part):
            x = torch.ops.aten.index.Tensor(x, [*[None] * dim, part.reshape(1)])
            parts[i] = 0
        dim += 1
    return x[tuple(parts)]


def _is_single(part: Any) -> bool:
    return isinstance(part, torch.Tensor) and part.dim() == 0 and part.dtype in _INTEGERS


def _is_mask(part: Any) -> bool:
    """Whether an index may span any number of dimensions: a mask, or a list, which torch converts to a tensor."""
    return isinstance(part, bool | list) or (isinstance(part, torch.Tensor) and part.dtype in (torch.bool, torch.uint8))
