"""Finds a column of shape (N, 1) that meets a vector of shape (N,): torch makes a matrix of N x N of the two.

Where the matrix is summed, its shape is lost and the density is silently that of all pairs of rows.
"""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from torch.overrides import TorchFunctionMode

from ..pair.pair import Pair
from ..runtime.generators import noise


def outer_column(pair: Pair, names: list[str]) -> str | None:
    """What is wrong where a column of the data and a vector make a matrix; None where they do not.

    names: of the data arguments. The pair runs once more, if one of them is a column. Its parameters exist.
    """
    columns = {name: value for name, value in zip(names, pair.data, strict=True) if _is_column(value)}
    if not columns:
        return None
    with noise(0), pyro.validation_enabled(False), torch.no_grad(), _Outer(columns) as watch:
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
        poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data).compute_log_prob()
    if watch.found is None:
        return None
    n = len(columns[watch.found])
    return (
        f"{watch.found}: a column of shape ({n}, 1) meets a vector of shape ({n},), which makes a matrix of shape "
        f"({n}, {n}); pass {watch.found} as a vector, {watch.found}.squeeze(-1), or a single column of the table"
    )


class _Outer(TorchFunctionMode):
    """Notes the first of these columns that meets a vector of its length, element by element. found: its name.

    A vector that is a view of the column itself belongs to a kernel: x - x.squeeze(-1) is meant as a matrix.
    """

    found: str | None = None

    def __init__(self, columns: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.columns = columns

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if self.found is None and isinstance(result, torch.Tensor) and result.dim() == 2 and len(args) > 1:
            for name, column in self.columns.items():
                square = tuple(result.shape) == (len(column), len(column))
                if square and any(v is column for v in args) and any(_is_vector(v, column) for v in args):
                    self.found = name
        return result


def _is_column(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 2 and value.shape[1] == 1 and len(value) > 1


def _is_vector(value: Any, column: torch.Tensor) -> bool:
    if not isinstance(value, torch.Tensor) or tuple(value.shape) != (len(column),):
        return False
    return value.untyped_storage().data_ptr() != column.untyped_storage().data_ptr()
