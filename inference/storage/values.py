"""Values of Python, NumPy and torch as JSON beside a dictionary of tensors, and back, bit for bit.

    described((1.5, {"a": x}), tensors)  ->  {"tuple": [1.5, {"dict": [["a", {"tensor": "1.a"}]]}]},  tensors["1.a"] = x

What JSON has stands as it is: None, bool, int, finite float, str and list. All else is a dictionary with the name of
its kind. Long sequences of floats become a tensor. Reading imports nothing and calls nothing by a name that the file
gives, so that a file cannot run a program.
"""

import datetime
import decimal
import math
import pathlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from .laws import law, lawful

LONG = 100  # floats in a sequence, from which on they are kept as a tensor
JSON = Any  # None, bool, int, float, str, lists of JSON, dictionaries of JSON by str

PLAIN = (type(None), bool, int, str)
SEQUENCES: dict[str, Callable[[list], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "size": torch.Size,
    "range": lambda parts: range(*parts),
    "slice": lambda parts: slice(*parts),
}
DTYPES = {str(each).removeprefix("torch."): each for each in vars(torch).values() if isinstance(each, torch.dtype)}
# Kinds that a text describes: their type, how it is written, how it is read.
TEXTS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "float": (float, repr, lambda text: math.nan if text == "nan" else float(text)),  # which JSON does not have
    "complex": (complex, lambda x: f"{x.real!r} {x.imag!r}", lambda text: complex(*map(float, text.split()))),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "dtype": (torch.dtype, lambda x: str(x).removeprefix("torch."), lambda text: DTYPES[text]),
    "device": (torch.device, str, torch.device),
    "path": (type(pathlib.Path()), str, pathlib.Path),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "timestamp": (
        pd.Timestamp,
        lambda x: x.isoformat() if x.tz is None else f"{x.tz_convert('UTC').isoformat()} {x.tz}",
        lambda text: pd.Timestamp(text.split()[0]).tz_convert(text.split()[1]) if " " in text else pd.Timestamp(text),
    ),
    "timedelta": (pd.Timedelta, lambda x: x.isoformat(), pd.Timedelta),
    "period": (pd.Period, lambda x: f"{x} {x.freqstr}", lambda text: pd.Period(*text.rsplit(" ", 1))),
    "no time": (type(pd.NaT), str, lambda text: pd.NaT),
    "missing": (type(pd.NA), str, lambda text: pd.NA),
}
TEXT_OF = {kind: name for name, (kind, _, _) in TEXTS.items()}
BROKEN = (KeyError, TypeError, IndexError, AttributeError, ArithmeticError, RuntimeError, RecursionError)


def described(value: Any, tensors: dict[str, torch.Tensor], types: Iterable[type] = (), at: str = "") -> JSON:
    """A value as JSON. Its tensors are added to `tensors`, as copies on the CPU that share no memory.

    It takes None, bool, int, float, complex, str, bytes, dates, paths; tuple, list, set, frozenset, range, slice; dict
    with any of these as keys; tensors, parameters, Size, dtype and device of torch's; arrays and scalars of NumPy's;
    timestamps, periods and intervals of pandas'; distributions, transforms and constraints; the NamedTuples in `types`.
    at: the place of the value: it names its tensors, and stands in messages.
    Raises TypeError, which names the place, for a value of any other type.

    >>> from credo.inference.storage.values import described, restored
    >>> tensors = {}
    >>> described({1: (2.5, float("inf"))}, tensors)
    {'dict': [[1, {'tuple': [2.5, {'float': 'inf'}]}]]}
    >>> restored(described(torch.ones(2), tensors), tensors)
    tensor([1., 1.])
    """
    types = tuple(types)

    def inside(parts: Iterable[Any]) -> list[JSON]:
        return [described(part, tensors, types, f"{at}.{i}" if at else str(i)) for i, part in enumerate(parts)]

    kind: Any = type(value)
    if kind in PLAIN or (kind is float and math.isfinite(value)):
        return value
    if kind in TEXT_OF:
        return {TEXT_OF[kind]: TEXTS[TEXT_OF[kind]][1](value)}
    if kind in (list, tuple) and len(value) >= LONG and all(type(each) is float for each in value):
        return {"floats": [kind.__name__, _kept(torch.tensor(value, dtype=torch.float64), tensors, at)]}
    if kind is list:
        return inside(value)
    if kind in (tuple, set, frozenset, torch.Size):
        return {kind.__name__.lower(): inside(value)}
    if kind in (range, slice):
        return {kind.__name__: inside((value.start, value.stop, value.step))}
    if kind in (dict, OrderedDict):
        places = [f"{at}.{key}" if at else str(key) for key in value]
        keys = [described(key, tensors, types, place) for key, place in zip(value, places, strict=True)]
        values = [described(each, tensors, types, place) for each, place in zip(value.values(), places, strict=True)]
        return {"dict" if kind is dict else "ordered": [list(pair) for pair in zip(keys, values, strict=True)]}
    if isinstance(value, torch.Tensor):
        return _tensor(value, tensors, at)
    if isinstance(value, (np.ndarray, np.generic)) and not isinstance(value, np.ma.MaskedArray):
        return _array(value, tensors, at)
    if kind is pd.Interval:
        return {"interval": inside((value.left, value.right, value.closed))}
    if kind in types:
        return {"named": [kind.__name__, described(value._asdict(), tensors, types, at)]}
    if (found := law(value)) is not None:
        return {"law": [found[0], described(found[1], tensors, types, at)]}
    raise TypeError(f"{at or 'the value'}: got an object of {kind.__module__}.{kind.__qualname__}, wanted data")


def restored(json: JSON, tensors: Mapping[str, torch.Tensor], types: Iterable[type] = ()) -> Any:
    """The value that `described` described, its tensors on their device if this machine has it, else on the CPU.

    types: as for `described`. A field that a NamedTuple lacks in the file has its default value.
    Raises ValueError for JSON that describes no value.
    """
    try:
        return _read(json, tensors, {kind.__name__: kind for kind in types})
    except BROKEN as error:
        raise ValueError(f"no value is described by it: {type(error).__name__}: {error}") from error


def device_here(device: torch.device) -> torch.device:
    """The device itself, or the CPU if this machine does not have it."""
    module = torch.get_device_module(device)
    there = module.is_available() and (device.type == "cpu" or (device.index or 0) < module.device_count())
    return device if there else torch.device("cpu")


def _tensor(value: torch.Tensor, tensors: dict[str, torch.Tensor], at: str) -> JSON:
    if value.layout is not torch.strided:
        sparse = value.detach().to_sparse_coo().coalesce()
        parts = [_tensor(part, tensors, f"{at}.{i}") for i, part in enumerate((sparse.indices(), sparse.values()))]
        return {"sparse": [*parts, list(sparse.shape), str(value.layout)]}
    plain = value.detach().resolve_conj().resolve_neg()
    # The order in memory is kept: sums in another order end in other digits.
    order = sorted(range(plain.dim()), key=plain.stride, reverse=True)
    order = order if plain.permute(order).is_contiguous() else list(range(plain.dim()))
    dense = plain.permute(order)
    made = {"tensor": _kept(torch.view_as_real(dense) if dense.is_complex() else dense, tensors, at)}
    further = {
        "order": order if order != sorted(order) else None,
        "complex": plain.is_complex(),
        "device": str(value.device) if value.device.type != "cpu" else None,
        "grad": value.requires_grad,
        "parameter": isinstance(value, nn.Parameter),
    }
    return made | {key: each for key, each in further.items() if each}


def _array(value: Any, tensors: dict[str, torch.Tensor], at: str) -> JSON:
    array = np.asarray(value)
    dtype, kind = array.dtype, array.dtype.kind
    if kind in "USO":
        held: JSON = [described(each, tensors, (), at) for each in array.ravel().tolist()]
    elif kind in "biufcmM" and dtype.itemsize <= (16 if kind == "c" else 8):
        native = np.array(array, dtype.newbyteorder("="), order="C")
        held = _tensor(torch.from_numpy(native.view(np.int64) if kind in "mM" else native), tensors, at)
    else:
        raise TypeError(f"{at or 'the value'}: got an array of {dtype}, wanted numbers, dates or text")
    return {"array": [held, dtype.str, list(array.shape), isinstance(value, np.generic)]}


def _kept(tensor: torch.Tensor, tensors: dict[str, torch.Tensor], at: str) -> str:
    """The name under which the tensor now stands in `tensors`."""
    name, i = at or "value", 1
    while name in tensors:
        name, i = f"{at or 'value'} ({i})", i + 1
    tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return name


def flat_bytes(tensor: torch.Tensor) -> Any:
    """The bytes of the values of a tensor, whatever its device and layout, row by row, shape (bytes,)."""
    dense = tensor.detach() if tensor.layout is torch.strided else tensor.detach().to_dense()
    dense = dense.resolve_conj().resolve_neg().cpu().contiguous()
    if not dense.numel():
        return np.empty(0, np.uint8)
    # A tensor of one number may have any stride, which `view` refuses.
    return dense.as_strided((dense.numel(),), (1,)).view(torch.uint8).numpy()


def _read(json: JSON, tensors: Mapping[str, torch.Tensor], types: Mapping[str, type]) -> Any:
    if isinstance(json, list):
        return [_read(each, tensors, types) for each in json]
    if not isinstance(json, dict):
        return json
    if "tensor" in json:
        return _read_tensor(json, tensors)
    [(kind, held)] = json.items()
    if kind in TEXTS:
        return TEXTS[kind][2](held)
    if kind == "floats":
        return {"list": list, "tuple": tuple}[held[0]](tensors[held[1]].tolist())
    if kind == "array":
        return _read_array(held, tensors)
    if kind == "sparse":
        indices, values, shape, layout = held
        read = torch.sparse_coo_tensor(
            _read_tensor(indices, tensors), _read_tensor(values, tensors), shape, check_invariants=True
        )
        return read.coalesce() if layout == "torch.sparse_coo" else read.to_sparse(layout=vars(torch)[layout[6:]])
    if kind in ("named", "law"):
        name, fields = held[0], _read(held[1], tensors, types)
        return types[name](**fields) if kind == "named" else lawful(name, fields)
    parts = [_read(each, tensors, types) for each in held]
    if kind in ("dict", "ordered"):
        return dict(parts) if kind == "dict" else OrderedDict(parts)
    return pd.Interval(*parts) if kind == "interval" else SEQUENCES[kind](parts)


def _read_tensor(json: JSON, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    read = tensors[json["tensor"]]
    if json.get("complex"):
        read = torch.view_as_complex(read)
    if order := json.get("order"):
        read = read.permute(*[order.index(i) for i in range(len(order))])
    if device := json.get("device"):
        read = read.to(device_here(torch.device(device)))
    if json.get("parameter"):
        return nn.Parameter(read, requires_grad=bool(json.get("grad")))
    return read.requires_grad_(bool(json.get("grad")))


def _read_array(json: JSON, tensors: Mapping[str, torch.Tensor]) -> Any:
    held, dtype, shape, scalar = json
    if isinstance(held, list):
        flat = np.empty(len(held), dtype=object)
        flat[:] = [_read(each, tensors, {}) for each in held]
        array = flat.astype(dtype)
    else:
        array = _read_tensor(held, tensors).numpy().reshape(-1)
        array = array.view(dtype) if np.dtype(dtype).kind in "mM" else array.astype(dtype)
    array = array.reshape(shape)
    return array[()] if scalar else array
