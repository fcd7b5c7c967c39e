"""The data of a fit in outline: types, shapes and checksums, without the values."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from .values import described, flat_bytes


class TensorOf(NamedTuple):
    """A tensor, or an array of NumPy's. sha256: of its bytes.

    levels: of whole numbers the smallest and the largest, in each column of a matrix, since models take numbers of
    groups from them; of booleans how many are False and True.
    """

    shape: tuple[int, ...]
    dtype: str
    sha256: str
    array: bool = False
    levels: tuple[tuple[int, int], ...] = ()


class ObjectOf(NamedTuple):
    """A network, or an object of the user's, which no file can hold."""

    name: str  # of its class
    network: bool


TYPES = (TensorOf, ObjectOf)


def outline(value: Any) -> Any:
    """The outline of an argument. Containers keep their form; text and numbers are settings, and stand as they are."""
    if isinstance(value, torch.Tensor):
        return TensorOf(
            tuple(value.shape), str(value.dtype).removeprefix("torch."), digest(value), levels=_levels(value)
        )
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return outline(torch.from_numpy(value.copy()))._replace(array=True)
    if type(value) in (list, tuple):
        return type(value)(outline(part) for part in value)
    if type(value) is dict:
        return {key: outline(part) for key, part in value.items()}
    try:
        described(value, {})
    except TypeError:
        return ObjectOf(type(value).__name__, isinstance(value, nn.Module))
    return value


def _levels(value: torch.Tensor) -> tuple[tuple[int, int], ...]:
    if value.is_floating_point() or value.is_complex() or value.layout is not torch.strided or not value.numel():
        return ()
    numbers = value.detach().cpu().numpy()
    if numbers.dtype.kind == "b":
        return ((int((~numbers).sum()), int(numbers.sum())),)
    axis = 0 if numbers.ndim == 2 else None
    found = np.stack([numbers.min(axis), numbers.max(axis)], -1).reshape(-1, 2).tolist()
    return tuple((low, high) for low, high in found) if max(high for _, high in found) < 2**63 else ()


def kept(value: Any) -> Any:
    """An argument as a file holds it that has the data: all but networks and objects, which are in outline."""
    if type(value) in (list, tuple):
        return type(value)(kept(part) for part in value)
    if type(value) is dict:
        return {key: kept(part) for key, part in value.items()}
    found = outline(value)
    return found if isinstance(found, ObjectOf) else value


def has(wanted: Any, kind: type) -> bool:
    """Whether an outline has a part of this kind, TensorOf or ObjectOf."""
    if type(wanted) in (list, tuple):
        return any(has(part, kind) for part in wanted)
    return any(has(part, kind) for part in wanted.values()) if type(wanted) is dict else isinstance(wanted, kind)


def digest(value: torch.Tensor) -> str:
    """The SHA-256 of the values of a tensor."""
    return hashlib.sha256(flat_bytes(value)).hexdigest()


def refuse_different(name: str, value: Any, wanted: Any) -> None:
    """Raises ValueError, which names the argument, for data that are not those of this outline."""
    if isinstance(wanted, ObjectOf):
        if wanted.network != isinstance(value, nn.Module):
            what = "a network" if wanted.network else f"an object ({wanted.name})"
            raise ValueError(f"{name}: got {type(value).__name__}, wanted {what}, as in the fit")
        return
    found = outline(value)
    if type(wanted) in (list, tuple) and type(found) is type(wanted) and len(found) == len(wanted):
        for i, (part, one) in enumerate(zip(value, wanted, strict=True)):
            refuse_different(f"{name}[{i}]", part, one)
    elif type(wanted) is dict and type(found) is dict and found.keys() == wanted.keys():
        for key, one in wanted.items():
            refuse_different(f"{name}[{key!r}]", value[key], one)
    elif isinstance(wanted, TensorOf) and isinstance(found, TensorOf):
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"{name}: got {found.dtype} of shape {found.shape}, wanted {wanted.dtype} of shape {wanted.shape}, as "
                f"in the fit; new data are for fit.predict(n, *new)"
            )
        if found.sha256 != wanted.sha256:
            raise ValueError(
                f"{name}: got data of the shape {found.shape} of the fit, but with other values; pass the data that "
                f"were fitted, or none. New data are for fit.predict(n, *new)"
            )
    elif repr(found) != repr(wanted):
        raise ValueError(f"{name}: got {_said(found)}, wanted {_said(wanted)}, as in the fit")


def _said(found: Any) -> str:
    if isinstance(found, TensorOf):
        return f"{found.dtype} of shape {found.shape}"
    return found.name if isinstance(found, ObjectOf) else repr(found)[:80]
