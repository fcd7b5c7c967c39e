"""Containers of data: DataLoader, Dataset and chunks as the tensors that they hold, all rows in their order; the user's
own lists and dictionaries as containers of the run, which a model cannot change for the user.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
)
from torch.utils.data.dataloader import _BaseDataLoaderIter

from ..runtime.traced import first_line
from .chunks import collected, is_chunked, parts_of


def unpacked(data: tuple[Any, ...]) -> tuple[Any, ...]:
    """The data with each Dataset, the Dataset of each DataLoader, and what gives chunks replaced by tensors.

    Raises ValueError for a Dataset without a length, whose rows cannot be collected, and for what reads a DataLoader.
    """
    if any(isinstance(value, _BaseDataLoaderIter) for value in data):
        raise ValueError(
            "data: got an iterator over a DataLoader, which can be read only once; pass the DataLoader itself, or one "
            "batch of it, *next(iterator)"
        )
    return tuple(part for value in data for part in _unpacked(value))


def batch_size_of(data: tuple[Any, ...]) -> int | None:
    """The rows of a batch of the DataLoader among the data, if it has one and its batches are not all of the rows."""
    for value in data:
        if isinstance(value, DataLoader) and isinstance(value.dataset, Dataset):
            size = value.batch_size or getattr(value.batch_sampler, "batch_size", None)  # of a BatchSampler of torch's
            if size is not None:
                return size if size < _length(value.dataset) else None
    return None


def refuse_own_order(loader: DataLoader) -> None:
    """Raises ValueError for a DataLoader whose sampler may leave rows out, or repeat some."""
    batches: Any = loader.batch_sampler
    sampler: Any = loader.sampler
    if batches is not None:
        sampler = batches.sampler if type(batches) is BatchSampler else batches
    n = _length(loader.dataset)
    if isinstance(sampler, DistributedSampler):
        each_once = _length(sampler.dataset) == n
    else:
        each_once = type(sampler) in (SequentialSampler, RandomSampler) and len(sampler) == n
    if not each_once or getattr(sampler, "replacement", False):
        raise ValueError(
            f"data: the rows of the DataLoader are chosen by a {type(sampler).__name__}, and credo takes each of the "
            f"{n:,} rows of {type(loader.dataset).__name__} once an epoch; pass loader.dataset for all of them, or "
            f"torch.utils.data.Subset(loader.dataset, rows) for some"
        )


HOLDS_NUMBERS = (torch.Tensor, np.ndarray, pd.Series, pd.DataFrame)
SINGLE = (int, float, complex, str, bytes, type(None))  # hold no tensors


def of_its_own(value: Any, tensors: bool, seen: dict[int, Any] | None = None) -> Any:
    """A container with the entries of this one, all containers in it too; other objects as they came.

    tensors: copies the tensors, arrays and tables in it as well. seen: {id: its copy}, as a container may hold itself.
    """
    seen = {} if seen is None else seen
    if id(value) in seen:
        return seen[id(value)]
    own = value
    if isinstance(value, HOLDS_NUMBERS):
        if tensors and not getattr(value, "requires_grad", False):  # torch refuses to change one that has a gradient
            own = seen[id(value)] = value.clone() if isinstance(value, torch.Tensor) else value.copy()
    elif isinstance(value, dict) or type(value) in (list, deque) or _is_dataclass(value):
        try:
            own = seen[id(value)] = copy(value)
        except Exception:  # of a class of the user's own, which may refuse it
            return value
        for key, part in _parts(own):
            if _is_dataclass(own):
                object.__setattr__(own, key, of_its_own(part, tensors, seen))
            else:
                own[key] = of_its_own(part, tensors, seen)
    elif _is_named(value):
        own = value._make(of_its_own(part, tensors, seen) for part in value)
    elif type(value) is tuple:
        own = tuple(of_its_own(part, tensors, seen) for part in value)
    return own


def tensors_in(value: Any) -> dict[str, Any]:
    """{place, as Python writes it behind the name: tensor, array or table} of all that is in a container, or is it."""
    found, todo, seen = {}, [("", value)], set()
    while todo:
        place, thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, HOLDS_NUMBERS):
            found[place] = thing
        elif isinstance(thing, (dict, list, tuple, deque)) or _is_dataclass(thing):
            where = "{}.{}" if _is_dataclass(thing) or _is_named(thing) else "{}[{!r}]"
            todo += [(where.format(place, k), part) for k, part in _parts(thing) if not isinstance(part, SINGLE)]
    return found


def _parts(container: Any) -> list[tuple[Any, Any]]:
    """The entries of a container: [(key, index or field, entry)]."""
    if isinstance(container, dict):
        return list(container.items())
    if _is_dataclass(container):
        return [
            (f.name, getattr(container, f.name)) for f in dataclasses.fields(container) if hasattr(container, f.name)
        ]
    if _is_named(container):
        return list(zip(container._fields, container, strict=True))
    return list(enumerate(container))


def collate_of(value: Any) -> Callable[[list[Any]], Any]:
    """What makes a batch of a list of rows: of a DataLoader with batches its own `collate_fn`, else torch's."""
    own = value.collate_fn if isinstance(value, DataLoader) and value.batch_sampler is not None else default_collate
    return own or default_collate


def _is_named(value: Any) -> bool:
    """Whether this is a named tuple."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, (type, nn.Module))


def _unpacked(value: Any) -> tuple[Any, ...]:
    if is_chunked(value):
        return collected(value)
    return _tensors(value) if _is_dataset(value) else (value,)


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
    if isinstance(value, DataLoader) and not isinstance(dataset, IterableDataset):
        refuse_own_order(value)
    if isinstance(dataset, TensorDataset):
        return tuple(dataset.tensors)
    if isinstance(dataset, Subset) and isinstance(dataset.dataset, TensorDataset):
        rows = torch.as_tensor(np.asarray(dataset.indices), dtype=torch.long)
        return tuple(tensor[rows.to(tensor.device)] for tensor in dataset.dataset.tensors)
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset) or _length(dataset) == 0:
        raise ValueError(f"data: {kind} has no rows that can be collected; pass tensors")
    try:
        rows = collate_of(value)([dataset[i] for i in range(_length(dataset))])
    except Exception as error:  # of the user's own program
        raise ValueError(
            f"data: the rows of {kind} cannot be stacked to tensors ({first_line(error)}); pass the tensors themselves"
        ) from error
    if isinstance(rows, Mapping):
        raise ValueError(
            f"data: the rows of {kind} are dictionaries; pass the tensors of their keys as arguments: {list(rows)}"
        )
    return parts_of(rows)
