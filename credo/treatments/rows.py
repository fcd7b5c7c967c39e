"""The rows of a comparison: tensors of the network's dtype, and a part of them held out where none are given."""

import copy
from typing import Any, NamedTuple

import numpy as np
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

    Whole numbers in x become floating point, unless they are for classes and the network takes them as they are.
    Raises ValueError for shapes that do not match, numbers that are not finite, and held-out rows without their y.
    """
    dtype = next((w.dtype for w in net.parameters() if w.is_floating_point()), torch.get_default_dtype())
    x, y = _tensor("x", x, dtype), _labels("y", y, dtype)
    _refuse_lengths("x", x, "y", y)
    if (x_test is None) != (y_test is None):
        missing, given = ("x_test", "y_test") if x_test is None else ("y_test", "x_test")
        raise ValueError(f"{missing}: got none beside {given}; pass both, or none of them to hold out rows of x and y")
    if x_test is None:
        if not 0 < round(HELD * len(x)) < len(x):
            raise ValueError(
                f"x_test: got none, and {len(x)} rows of x, too few to hold some out; pass x_test and y_test"
            )
        (rest,), (held,) = split((torch.arange(len(x)),), HELD, seed)
        x, y, x_test, y_test = x[rest], y[rest], x[held], y[held]
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
    x, y, x_test, y_test = (part.to(device) for part in (x, y, x_test, y_test))
    ood = None if ood is None else ood.to(device)
    if y.is_floating_point() or x.is_floating_point() or not _takes(net, x[:2]):
        x, x_test, ood = x.to(dtype), x_test.to(dtype), None if ood is None else ood.to(dtype)
    if ood is not None:
        words += f", {len(ood):,} unlike them"
    return Rows(x, y, x_test, y_test, ood, words)


def _takes(net: nn.Module, whole: torch.Tensor) -> bool:
    """Whether the network takes whole numbers as they are, as an embedding does."""
    try:
        with torch.no_grad():
            copy.deepcopy(net).to(whole.device).eval()(whole)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return False
    return True


def _tensor(name: str, given: Any, dtype: torch.dtype) -> torch.Tensor:
    """Rows as a tensor; floating point numbers in the dtype of the network, whole ones (indices) as they are."""
    value = as_tensor(_array(name, given))
    if not isinstance(value, torch.Tensor) or not value.dim() or not len(value):
        raise ValueError(f"{name}: got {type(given).__name__}, wanted a tensor or an array of numbers, with rows")
    value = value.detach()
    if not value.is_floating_point():
        return value
    if bad := int((~value.isfinite()).sum()):
        raise ValueError(f"{name}: {bad} entries are missing or infinite; fill or drop them first")
    return value.to(dtype)


def _array(name: str, given: Any) -> Any:
    """Columns of pandas as an array of numbers, a missing entry as NaN; anything else as it is."""
    if not isinstance(given, pd.DataFrame | pd.Series):
        return given
    columns = given.to_frame(name) if isinstance(given, pd.Series) else given
    arrays = [columns.iloc[:, i].to_numpy() for i in range(columns.shape[1])]
    if text := [str(label) for label, values in zip(columns, arrays, strict=True) if values.dtype.kind not in "biuf"]:
        if not columns.isna().any(axis=None):
            raise ValueError(
                f"{name}: {', '.join(text)} holds no numbers; pass codes, as of pandas.factorize, or columns of zeros "
                f"and ones, as of pandas.get_dummies"
            )
        raise ValueError(f"{name}: entries of {', '.join(text)} are missing or no numbers; fill or drop them first")
    return arrays[0] if isinstance(given, pd.Series) else np.stack(arrays, 1)


def _labels(name: str, given: Any, dtype: torch.dtype) -> torch.Tensor:
    """y, shape (N,): classes as int64 if it holds integers or booleans, else numbers."""
    value = _tensor(name, given, dtype)
    if value.dim() == 2 and value.shape[1] == 1:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}, wanted ({len(value)},); pass {name}.squeeze(1)")
    if value.dim() != 1:
        raise ValueError(f"{name}: got shape {tuple(value.shape)}, wanted ({len(value)},): one class or number a row")
    return value if value.is_floating_point() else value.to(torch.int64)


def _refuse_lengths(name: str, rows: torch.Tensor, other: str, labels: torch.Tensor) -> None:
    if len(rows) != len(labels):
        raise ValueError(f"{other}: got {len(labels)} entries for {len(rows)} rows of {name}, wanted one for each row")
