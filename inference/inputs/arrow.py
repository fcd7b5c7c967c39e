"""Tables and columns of other libraries (polars, pyarrow, duckdb) by the Arrow C stream, without any of them.

An object with `__arrow_c_stream__` hands out its columns as buffers in memory; this file reads them into pandas.
Source: The Arrow PyCapsule interface and the C data interface, arrow.apache.org/docs/format.
"""

import ctypes
import struct
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

NUMBERS = dict(zip("cCsSiIlLefg", "i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8".split(), strict=True))  # format: NumPy's type
UNITS = {"s": "s", "m": "ms", "u": "us", "n": "ns"}
ORDERED = 1  # flag of a dictionary whose order has a meaning
INLINE = 12  # bytes of a text that a view holds itself


class _Schema(ctypes.Structure):
    """struct ArrowSchema: the type of a column."""


class _Array(ctypes.Structure):
    """struct ArrowArray: the buffers of a column."""


class _Stream(ctypes.Structure):
    """struct ArrowArrayStream: chunks of a table or column."""


_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(_Schema))),
    ("dictionary", ctypes.POINTER(_Schema)),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Schema))),
    ("private_data", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.POINTER(_Array)),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Array))),
    ("private_data", ctypes.c_void_p),
]
_Stream._fields_ = [
    ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Stream), ctypes.POINTER(_Schema))),
    ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Stream), ctypes.POINTER(_Array))),
    ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.POINTER(_Stream))),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Stream))),
    ("private_data", ctypes.c_void_p),
]


def from_arrow(value: Any) -> pd.DataFrame | pd.Series:
    """A table or column of another library as a DataFrame or a Series; `value` has the method `__arrow_c_stream__`.

    Missing values are NaN in floating point, NA in integers and booleans, None in text. Raises ValueError, which names
    the column, for columns of lists and other types that are no numbers, booleans, text, categories or times.
    """
    capsule = value.__arrow_c_stream__()
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    stream = ctypes.cast(address(capsule, b"arrow_array_stream"), ctypes.POINTER(_Stream))
    schema = _Schema()
    _checked(stream, stream.contents.get_schema(stream, ctypes.byref(schema)))
    try:
        table = schema.format == b"+s"
        columns = [schema.children[i].contents for i in range(schema.n_children)] if table else [schema]
        chunks: list[list[pd.Series]] = [[] for _ in columns]
        for array in _arrays(stream):
            for i, column in enumerate(columns):
                part = array.children[i].contents if table else array
                begin = array.offset + part.offset if table else part.offset
                chunks[i].append(_column(column, part, begin, array.length))
        found = [_joined(column, parts) for column, parts in zip(columns, chunks, strict=True)]
        if not table:
            return found[0].rename(_name(schema) or None)
        return pd.DataFrame(dict(enumerate(found))).set_axis([_name(column) for column in columns], axis=1)
    finally:
        schema.release(ctypes.byref(schema))


def _arrays(stream: Any) -> Iterator[_Array]:
    """The chunks of a stream; each is released before the next one."""
    while True:
        array = _Array()
        _checked(stream, stream.contents.get_next(stream, ctypes.byref(array)))
        if not array.release:
            return
        try:
            yield array
        finally:
            array.release(ctypes.byref(array))


def _checked(stream: Any, error: int) -> None:
    if error:
        words = stream.contents.get_last_error(stream)
        raise ValueError(f"a table in Arrow's format could not be read: {(words or b'').decode() or error}")


def _joined(schema: _Schema, parts: list[pd.Series]) -> pd.Series:
    """One column from its chunks."""
    if not parts:
        empty = _Array()
        return _column(schema, empty, 0, 0)
    if len(parts) > 1 and isinstance(parts[0].dtype, pd.CategoricalDtype):
        return pd.Series(pd.api.types.union_categoricals([part.array for part in parts]))
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def _column(schema: _Schema, array: _Array, begin: int, n: int) -> pd.Series:
    """n values of a column, from number `begin` of its buffers on."""
    kind = schema.format.decode()
    missing = ~_bits(array, 0, begin, n) if array.n_buffers and array.buffers[0] and kind != "n" else np.zeros(n, bool)
    if schema.dictionary:
        return _categories(schema, array, begin, n, missing)
    if kind in NUMBERS:
        values = _buffer(array, 1, NUMBERS[kind], begin, n)
        if not missing.any():
            return pd.Series(values)
        wide = values.astype(float) if values.dtype.kind == "f" else pd.array(values)
        return pd.Series(wide).mask(missing)
    if kind == "b":
        values = _bits(array, 1, begin, n)
        return pd.Series(values, dtype="boolean").mask(missing) if missing.any() else pd.Series(values)
    if kind == "n":
        return pd.Series([None] * n, dtype=object)
    if kind in ("tdD", "tdm") or kind[:2] in ("ts", "tD"):
        return _times(kind, array, begin, n, missing)
    reader = _reader(kind, array, begin)
    if reader is None:
        raise ValueError(
            f"column {_name(schema)!r} has Arrow's type {kind!r}, wanted numbers, booleans, text, categories or times; "
            f"pass an array of its numbers, or leave it out"
        )
    return pd.Series([None if gone else reader(i) for i, gone in enumerate(missing)], dtype=object)


def _categories(schema: _Schema, array: _Array, begin: int, n: int, missing: np.ndarray) -> pd.Series:
    codes = _buffer(array, 1, NUMBERS[schema.format.decode()], begin, n).astype(np.int64)
    codes[missing] = -1
    known = array.dictionary.contents
    labels = (
        _column(schema.dictionary.contents, known, known.offset, known.length) if n else pd.Series([], dtype=object)
    )
    return pd.Series(pd.Categorical.from_codes(codes, labels.tolist(), ordered=bool(schema.flags & ORDERED)))


def _times(kind: str, array: _Array, begin: int, n: int, missing: np.ndarray) -> pd.Series:
    """Dates, points in time, and durations."""
    if kind == "tdD":
        values = _buffer(array, 1, "i4", begin, n).astype("i8").view("M8[D]").astype("M8[s]")
    else:
        unit = "ms" if kind == "tdm" else UNITS[kind[2]]
        values = _buffer(array, 1, "i8", begin, n).view(f"{'m' if kind.startswith('tD') else 'M'}8[{unit}]").copy()
    values[missing] = np.array("NaT", values.dtype)
    zone = kind.partition(":")[2] if kind.startswith("ts") else ""
    found = pd.Series(values)
    return found.dt.tz_localize("UTC").dt.tz_convert(zone) if zone else found


def _reader(kind: str, array: _Array, begin: int) -> Callable[[int], Any] | None:
    """Reads value number i of a column of text, bytes or decimals; None for another type."""
    text = kind.removeprefix("v") in ("u", "U")

    def plain(raw: bytes) -> Any:
        return raw.decode() if text else raw

    if kind in ("u", "z", "U", "Z"):
        width = 4 if kind in "uz" else 8

        def between(i: int) -> Any:
            at, end = np.frombuffer(ctypes.string_at(array.buffers[1] + (begin + i) * width, 2 * width), f"i{width}")
            return plain(ctypes.string_at(array.buffers[2] + int(at), int(end - at)))

        return between
    if kind in ("vu", "vz"):

        def viewed(i: int) -> Any:
            view = ctypes.string_at(array.buffers[1] + (begin + i) * 16, 16)
            (length,) = struct.unpack_from("=i", view)
            if length <= INLINE:
                return plain(view[4 : 4 + length])
            buffer, at = struct.unpack_from("=ii", view, 8)
            return plain(ctypes.string_at(array.buffers[2 + buffer] + at, length))

        return viewed
    if kind.startswith("d:"):
        digits = [int(part) for part in kind[2:].split(",")]
        width = digits[2] // 8 if len(digits) > 2 else 16

        def exact(i: int) -> Decimal:
            raw = ctypes.string_at(array.buffers[1] + (begin + i) * width, width)
            return Decimal(int.from_bytes(raw, "little", signed=True)).scaleb(-digits[1])

        return exact
    return None


def _buffer(array: _Array, place: int, dtype: str, begin: int, n: int) -> np.ndarray:
    """A copy of n numbers of a buffer."""
    size = np.dtype(dtype).itemsize
    raw = ctypes.string_at(array.buffers[place] + begin * size, n * size) if n else b""
    return np.frombuffer(raw, dtype).copy()


def _bits(array: _Array, place: int, begin: int, n: int) -> np.ndarray:
    """n bits of a buffer as booleans, the lowest bit of a byte first."""
    raw = ctypes.string_at(array.buffers[place] + begin // 8, (begin % 8 + n + 7) // 8) if n else b""
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
    return bits[begin % 8 : begin % 8 + n].astype(bool)


def _name(schema: _Schema) -> str:
    return (schema.name or b"").decode()
