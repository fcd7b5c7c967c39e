"""The rows of a comparison: tensors of the network's dtype, and a part of them held out where none are given."""

from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import nn

from credo.inference.inputs.split import split
from credo.metrics.classes import as_tensor

HELD = 0.2  # of the rows, where no held-out ones are given


class Rows(NamedTuple):
    """Rows to learn from, x (N, ...) and y (N,), and rows to be scored on, x_test and y_test; ood: (M, ...) or None.

    words: how many there are of each.
    """

    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor
    ood: torch.Tensor | None
    words: str


def rows_of(
    net: nn.Module, x: Any, y: Any, x_test: Any, y_test: Any, ood: Any, seed: int, device: torch.device
) -> Rows:
    """The data of a comparison on the device. Without held-out rows a fifth of the rows is held out at random.

    Raises ValueError for shapes that do not match, numbers that are not finite, and held-out rows without their y.
    """
    dtype = next((w.dtype for w in net.parameters() if w.is_floating_point()), torch.get_default_dtype())
    x, y = _tensor("x", x, dtype), _labels("y", y, dtype)
    _refuse_lengths("x", x, "y", y)
    if (x_test is None) != (y_test is None):
        missing, given = ("x_test", "y_test") if x_test is None else ("y_test", "x_test")
        raise ValueError(f"{missing}: got none beside {given}; pass both, or none of them to hold out rows of x and y")
    if x_test is None:
        (x, y), (x_test, y_test) = split((x, y), HELD, seed)
        words = f"{len(x):,} rows to learn from, {len(x_test):,} held out at random (seed {seed})"
    else:
        x_test, y_test = _tensor("x_test", x_test, dtype), _labels("y_test", y_test, dtype)
        _refuse_lengths("x_test", x_test, "y_test", y_test)
        words = f"{len(x):,} rows to learn from, {len(x_test):,} to be scored on"
    if y.is_floating_point() != y_test.is_floating_point():
        raise ValueError(f"y_test: got {y_test.dtype}, wanted the kind of y, {y.dtype}: classes or numbers")
    ood = None if ood is None else _tensor("ood", ood, dtype)
    if ood is not None and y.is_floating_point():
        raise ValueError(
            "ood: got rows unlike the others for a regression, whose prediction has no entropy of classes; leave it out"
        )
    for name, part in (("x_test", x_test), ("ood", ood)):
        if part is not None and part.shape[1:] != x.shape[1:]:
            raise ValueError(f"{name}: got rows of shape {tuple(part.shape[1:])}, wanted {tuple(x.shape[1:])}, as in x")
    if ood is not None:
        words += f", {len(ood):,} unlike them"
    x, y, x_test, y_test = (part.to(device) for part in (x, y, x_test, y_test))
    return Rows(x, y, x_test, y_test, None if ood is None else ood.to(device), words)


def _tensor(name: str, given: Any, dtype: torch.dtype) -> torch.Tensor:
    """Rows as a tensor; floating point numbers in the dtype of the network, whole ones (indices) as they are."""
    value = as_tensor(given.to_numpy() if isinstance(given, pd.DataFrame) else given)
    if not isinstance(value, torch.Tensor) or not value.dim() or not len(value):
        raise ValueError(f"{name}: got {type(given).__name__}, wanted a tensor or an array with rows")
    value = value.detach()
    if not value.is_floating_point():
        return value
    if bad := int((~value.isfinite()).sum()):
        raise ValueError(f"{name}: {bad} entries are missing or infinite; fill or drop them first")
    return value.to(dtype)


def _labels(name: str, given: Any, dtype: torch.dtype) -> torch.Tensor:
    """y, shape (N,): classes as int64 if it holds integers or booleans, else numbers."""
    value = _tensor(name, given, dtype)
    if value.dim() == 2 and value.shape[1] == 1:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}, wanted ({len(value)},); pass {name}[:, 0]")
    if value.dim() != 1:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}, wanted ({len(value)},): one class or number a row")
    return value if value.is_floating_point() else value.to(torch.int64)


def _refuse_lengths(name: str, rows: torch.Tensor, other: str, labels: torch.Tensor) -> None:
    if len(rows) != len(labels):
        raise ValueError(f"{other}: got {len(labels)} entries for {len(rows)} rows of {name}, wanted one for each row")
