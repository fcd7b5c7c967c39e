"""The draws of a reference as data for a file; what is needed of their model to recognise it."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..pair.identity import Identity, pair_identity
from ..pair.pair import Summed
from ..posterior.approximation import pair_of
from ..runtime.defaults import CPU, default_dtype
from ..runtime.state import reading
from ..storage.absent import DRAWS, Absent, about_data, refuse_to_save
from ..storage.container import write
from ..storage.outline import TYPES
from ..storage.states import Network, Parts, parts_of
from ..storage.values import described

STORED = (Summed, Network, Parts, *TYPES)


def save(reference: Any, path: str | os.PathLike[str], with_data: bool = False) -> None:
    """Writes draws to one file; see `Reference.save`."""
    refuse_to_save(() if reference.source is None else reference.source.data, with_data)
    tensors: dict[str, torch.Tensor] = {}
    fields = {f.name: getattr(reference, f.name) for f in dataclasses.fields(reference) if f.name != "source"}
    made: dict[str, Any] = {"fields": fields, "source": None}
    if (source := reference.source) is not None:
        apart = ("model", "data", "state")
        made["source"] = {name: value for name, value in source._asdict().items() if name not in apart}
        made["parts"] = parts_of(source.state)
        known = source.data.file if isinstance(source.data, Absent) else None
        made["data"] = known or _about_data(reference, with_data)
    as_json = {key: described(value, tensors, STORED, key) for key, value in made.items()}
    write(path, "reference", as_json | {"kind": "reference"}, tensors)


def identity_of(reference: Any) -> Identity:
    """The sites of the model on its data, at one of the draws."""
    found = reference.approximation
    with default_dtype(found.dtype), reading(found.state, 0):
        return pair_identity(pair_of(found), None)


def _about_data(reference: Any, with_data: bool) -> dict[str, Any]:
    source = reference.source

    def of(data: tuple[Any, ...]) -> Any:
        return dataclasses.replace(reference, source=source._replace(data=data))

    asked: Mapping[str, Callable[[Any, Any], Any]] = {
        "guide": lambda data, new: reference.draws,
        "predict": lambda data, new: of(data).predict(DRAWS, *new),
    }
    dtype = reference.approximation.dtype
    return about_data(source.model, source.data, dtype, CPU, lambda data: identity_of(of(data)), asked, with_data)
