"""Rows in memory that stand beside rows that are not: a vector of responses beside a matrix in a file."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from .part import Part, random_access

HAVE_ROWS = (torch.Tensor, np.ndarray, pd.Series, pd.DataFrame)


def rows_in(value: Any) -> int | None:
    """How many rows a value in memory has; None for what has none, as a number or a network."""
    if isinstance(value, HAVE_ROWS):
        return len(value) if value.ndim else None
    return len(value) if type(value) in (list, tuple) else None


def of_resident(value: Any, name: str) -> Part:
    """The rows of a tensor, an array, a table, or a list. name: of the argument, for messages."""
    if isinstance(value, list | tuple):
        value = pd.Series(list(value)).to_numpy() if isinstance(value[0], str) else np.asarray(value)
    rows = value.iloc if isinstance(value, pd.Series | pd.DataFrame) else value
    return Part(name, len(value), random_access(lambda part: (rows[part],)))
