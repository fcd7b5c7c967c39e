"""Rows of the user's data held out at random, before anything else is made of the data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from .arguments import shown
from .datasets import unpacked
from .labels import holds_labels
from .tables import as_table

HAVE_ROWS = (pd.DataFrame, pd.Series, pd.Categorical, list, tuple)


def split(data: tuple[Any, ...], share: float, seed: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """(the data without a share of its rows, these rows alone); what has no rows, as a network, is in both.

    Rows are those of the arguments that have as many as most others. Raises ValueError for a share that leaves no row.
    """
    data = tuple(_declared(as_table(value)) for value in unpacked(data))
    lengths = {i: n for i, value in enumerate(data) if (n := _rows(value)) is not None}
    if not lengths:
        raise ValueError("validation: the data holds nothing with rows to hold some out; pass the held-out data")
    n = max(lengths.values(), key=list(lengths.values()).count)
    for i, value in enumerate(data):
        square = isinstance(value, torch.Tensor | np.ndarray) and value.shape == (n, n) and n > 1
        if square and bool((value == value.T).all()):
            raise ValueError(
                f"validation: argument {i + 1} of the data is a symmetric matrix of shape {(n, n)}, rows by rows, from "
                f"which no rows can be held out alone; pass the held-out data, validation=(...), or leave it out"
            )
    held = round(share * n)
    if not 0 < held < n:
        raise ValueError(
            f"validation: got {shown(share)} of {n} rows, wanted a share between 0 and 1 that leaves rows on both sides"
        )
    order = np.random.default_rng(seed).permutation(n)
    parts = (np.sort(order[held:]), np.sort(order[:held]))
    train, rest = (
        tuple(_taken(value, index) if lengths.get(i) == n else value for i, value in enumerate(data)) for index in parts
    )
    return train, rest


def complete(data: tuple[Any, ...], held: Any) -> tuple[Any, ...]:
    """Held-out data in the form of the data: those without rows, as a network, may be left out of it.

    Raises ValueError for another number of arguments.
    """
    held = as_table(held)
    parts = unpacked((held,) if not isinstance(held, tuple | list) else tuple(held))
    data = tuple(as_table(value) for value in unpacked(data))
    with_rows = [i for i, value in enumerate(data) if _rows(value) is not None]
    if len(parts) == len(data):
        return parts
    if len(parts) != len(with_rows):
        raise ValueError(
            f"validation: got {len(parts)} arguments, wanted those of the model that have rows, {len(with_rows)} as "
            f"in the data, in their order: validation=(x_val, y_val); or a share of the rows, as validation=0.1"
        )
    rows = dict(zip(with_rows, parts, strict=True))
    return tuple(rows.get(i, value) for i, value in enumerate(data))


def _declared(value: Any) -> Any:
    """Text as categories of all its labels, which both parts then know; anything else as it came."""
    if isinstance(value, pd.DataFrame):
        table = value.copy(deep=False)
        for i in range(value.shape[1]):
            table.isetitem(i, _declared(value.iloc[:, i]))
        return table
    if isinstance(value, pd.Series):
        return value.astype("category") if holds_labels(value) else value
    is_array = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "UTO"
    if is_array or (type(value) in (list, tuple) and value and all(isinstance(entry, str) for entry in value)):
        text = pd.Series(list(value), dtype=object)
        return pd.Categorical(text) if holds_labels(text) else value
    return value


def _rows(value: Any) -> int | None:
    """How many rows a value has; None for what has none, as a number or a network."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return len(value) if value.ndim else None
    return len(value) if isinstance(value, HAVE_ROWS) else None


def _taken(value: Any, index: np.ndarray) -> Any:
    """These rows of a value."""
    if isinstance(value, pd.DataFrame | pd.Series):
        return value.iloc[index]
    if isinstance(value, torch.Tensor):
        return value[torch.as_tensor(index, device=value.device)]
    if isinstance(value, Sequence):
        kind: Any = type(value)
        return kind(value[i] for i in index)
    return value[index]
