"""Handwritten digits: 1,797 images of 8 by 8 pixels (Alpaydin and Kaynak 1998), which ship with scikit-learn."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

TRAIN = 1437  # rows to learn from; the other 360 are held out


class Digits(NamedTuple):
    """Training rows x, y and held-out rows x_test, y_test of the handwritten digits; `credo.data.digits` returns them.

    x, x_test: shape (N, 64) or (N, 1, 8, 8), pixels from 0 to 1. y, y_test: shape (N,), the digit, int64.

    >>> credo.data.Digits._fields
    ('x', 'y', 'x_test', 'y_test')
    """

    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def digits(shape: str = "flat") -> Digits:
    """1,797 handwritten digits of 8 by 8 pixels, which ship with scikit-learn (Alpaydin and Kaynak 1998).

    They are split by a shuffle that is the same on every machine (seed 0): 1,437 rows to learn from, 360 held out.

    shape: "flat" gives rows of 64 pixels for linear layers, "image" images for convolutions, (1, 8, 8).
    Raises ValueError for another shape.

    >>> x, y, x_test, y_test = credo.data.digits()
    >>> x.shape, x_test.shape
    (torch.Size([1437, 64]), torch.Size([360, 64]))
    """
    from sklearn.datasets import load_digits

    if shape not in ("flat", "image"):
        raise ValueError(f"shape: got {shape!r}, wanted 'flat' for rows of shape (64,), 'image' for (1, 8, 8)")
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(pixels))
    x = torch.tensor(pixels[order] / 16, dtype=torch.get_default_dtype())
    x = x.reshape(-1, 1, 8, 8) if shape == "image" else x
    y = torch.tensor(labels[order], dtype=torch.int64)
    return Digits(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:])


def labelled(table: pd.DataFrame | None) -> tuple[torch.Tensor, torch.Tensor, int]:
    """(x, shape (N, D); y, shape (N,); the number of classes) of the training digits, or of a table.

    table: a column `y` with whole numbers from 0, and the inputs in all other columns.
    Raises ValueError for a table without these columns, and for data of one class only.
    """
    if table is None:
        x, y, _, _ = digits()
        return x, y, 10
    x = inputs(table.drop(columns="y", errors="ignore"))
    if "y" not in table.columns:
        raise ValueError(f"the table has columns {list(table.columns)[:10]}; wanted a column 'y' with the classes")
    y = table["y"]
    if not pd.api.types.is_numeric_dtype(y) or y.isna().any() or (y % 1 != 0).any() or (y < 0).any():
        raise ValueError(
            "column 'y': wanted whole numbers from 0, one for each class; encode it first (pandas.factorize)"
        )
    if y.nunique() < 2:
        raise ValueError(f"column 'y' holds one class only ({int(y.iloc[0])}); wanted at least two")
    if y.max() >= len(y):
        raise ValueError(
            f"column 'y': got class {int(y.max())} in {len(y)} rows; wanted classes counted from 0 (pandas.factorize)"
        )
    return x, torch.tensor(y.to_numpy(dtype=np.int64)), int(y.max()) + 1


def inputs(table: pd.DataFrame) -> torch.Tensor:
    """All columns as a matrix, shape (N, D). Raises ValueError for text, missing values and a table without columns."""
    if table.shape[1] == 0:
        raise ValueError("the table has no columns to learn from; wanted at least one column besides 'y'")
    for name, column in table.items():
        if not pd.api.types.is_numeric_dtype(column):
            raise ValueError(f"column {name!r} holds {column.dtype}, wanted numbers; encode it or leave it out")
        if bad := int((column.isna() | column.abs().eq(math.inf)).sum()):
            raise ValueError(f"column {name!r} has {bad} missing or infinite values; drop or fill those rows first")
    return torch.tensor(table.to_numpy(dtype=np.float64), dtype=torch.get_default_dtype())
