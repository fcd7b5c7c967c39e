"""torch's own containers of data, DataLoader and Dataset, as the tensors that they hold: all rows, in their order."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate


def unpacked(data: tuple[Any, ...]) -> tuple[Any, ...]:
    """The data with each Dataset, or the Dataset of each DataLoader, replaced by its tensors, one an argument.

    Raises ValueError for a Dataset without a length, whose rows cannot be collected.
    """
    return tuple(part for value in data for part in (_tensors(value) if _is_dataset(value) else (value,)))


def batch_size_of(data: tuple[Any, ...]) -> int | None:
    """The rows of a batch of the DataLoader among the data, if it has one and its batches are not all of the rows."""
    for value in data:
        if isinstance(value, DataLoader) and isinstance(value.dataset, Dataset) and value.batch_size is not None:
            return value.batch_size if value.batch_size < _length(value.dataset) else None
    return None


def _is_dataset(value: Any) -> bool:
    return isinstance(value, (DataLoader, Dataset))


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        raise ValueError(
            f"data: the rows of {type(dataset).__name__} have no number, so they cannot be collected; pass tensors"
        ) from None


def _tensors(value: Any) -> tuple[Any, ...]:
    """The tensors of a data set: one for each part of its rows."""
    dataset = value.dataset if isinstance(value, DataLoader) else value
    if isinstance(dataset, TensorDataset):
        return tuple(dataset.tensors)
    if isinstance(dataset, Subset) and isinstance(dataset.dataset, TensorDataset):
        rows = torch.as_tensor(np.asarray(dataset.indices), dtype=torch.long)
        return tuple(tensor[rows.to(tensor.device)] for tensor in dataset.dataset.tensors)
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset) or _length(dataset) == 0:
        raise ValueError(f"data: {kind} has no rows that can be collected; pass tensors")
    try:
        rows = default_collate([dataset[i] for i in range(_length(dataset))])
    except (TypeError, RuntimeError, IndexError, KeyError) as error:
        raise ValueError(
            f"data: the rows of {kind} cannot be stacked to tensors ({str(error).splitlines()[0]}); pass the tensors "
            f"themselves"
        ) from error
    if isinstance(rows, Mapping):
        raise ValueError(
            f"data: the rows of {kind} are dictionaries; pass the tensors of their keys as arguments: {list(rows)}"
        )
    return tuple(rows) if isinstance(rows, (list, tuple)) else (rows,)
