"""CSV files by chunks: byte ranges that end with a line, so that any chunk can be read without those before it.

A first pass over the file finds the ranges, counts the rows, and the type of each column, as pandas would have found
it in the whole file: a column with a single 1.5 is floating point in every chunk.
"""

import os
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..inputs.files import PACKED, is_csv, names_in
from .part import NotRead, Part, random_access
from .sizes import SHARE, free_memory

BYTES = 2**22  # of a chunk
LOOK = 1000  # rows, whose names and numbering the header line must fit


class Range(NamedTuple):
    """Bytes of the file, from the begin of a line to the end of one."""

    begin: int
    end: int
    n: int  # rows


def of_csv(path: Path) -> Part:
    """The rows of a CSV file, a chunk for each of its byte ranges.

    Raises ValueError for a packed file, and as `csv_table` does. Reading raises NotRead, which names the rows, where
    the file was cut short, changed, or vanished.
    """
    if path.suffix.lower() in PACKED:
        raise ValueError(f"{path}: a packed file cannot be read by chunks; unpack it first")
    names = names_in(path, LOOK)
    ranges, kinds = _first_pass(path, names)
    stamp = _stamp(path)
    starts = np.cumsum([0, *(r.n for r in ranges)])
    places = {int(start): r for start, r in zip(starts, ranges, strict=False)}

    def read(rows: slice) -> tuple[pd.DataFrame]:
        r = places[rows.start]
        place = f"{path}: rows {rows.start:,} to {rows.stop - 1:,}"
        try:
            if _stamp(path) != stamp:
                raise NotRead(f"{place} cannot be read, since the file was changed after its first pass")
            with path.open("rb") as file:
                file.seek(r.begin)
                table = _parsed(file.read(r.end - r.begin), names, kinds)
        except (OSError, ValueError) as error:
            if isinstance(error, NotRead):
                raise
            raise NotRead(f"{place} cannot be read ({error})") from error
        return (table,)

    chunks = tuple(slice(int(a), int(a) + r.n) for a, r in zip(starts, ranges, strict=False))
    return Part(str(path), int(starts[-1]), random_access(read), chunks)


def csv_fits(value: Any) -> bool:
    """Whether this is the path of a CSV file that memory holds for sure: a number takes two bytes of it at least."""
    free = free_memory()
    return is_csv(value) and free is not None and value.is_file() and 4 * value.stat().st_size <= SHARE * free


def _first_pass(path: Path, names: list[Any]) -> tuple[list[Range], dict[Any, Any]]:
    """The byte ranges of the file, and the type of each column that pandas is to read."""
    ranges, kinds = list[Range](), dict[Any, str]()
    for begin, end, raw in _blocks(path):
        try:
            table = _parsed(raw, names, None)
        except ValueError as error:
            rows = sum(r.n for r in ranges)
            raise ValueError(f"{path}: cannot be read as a CSV file behind row {rows:,} ({error})") from None
        if len(table):
            ranges.append(Range(begin, end, len(table)))
            for name in names:
                kinds[name] = _both(kinds.get(name), table[name])
    if not ranges:
        raise ValueError(f"{path}: has no rows; wanted a header line with column names, and data below it")
    return ranges, {name: TYPES[kind] for name, kind in kinds.items()}


TYPES = {"": "float64", "b": "bool", "i": "int64", "f": "float64", "O": object, "u": "uint64"}


def _both(kind: str | None, column: pd.Series) -> str:
    """The kind of a column of which the rows before are of `kind`, None if there are none, and these come now."""
    text = pd.api.types.is_string_dtype(column.dtype)
    own = "O" if text else "" if column.dtype.kind == "f" and column.isna().all() else column.dtype.kind
    if kind is None or kind == own:
        return own
    if "" in (kind, own):  # all missing in one of them
        return {"b": "O", "O": "O"}.get(kind + own, "f")
    return "f" if {kind, own} <= {"i", "f", "u"} else "O"


def _parsed(raw: bytes, names: list[Any], kinds: dict[Any, Any] | None) -> pd.DataFrame:
    return pd.read_csv(BytesIO(raw), header=None, names=names, index_col=False, dtype=kinds, low_memory=False)


def _blocks(path: Path) -> Any:
    """(first byte, end, bytes) of ranges behind the header that end with a line; a line end in quotes is none."""
    with path.open("rb") as file:
        begin, rest, quoted, header = 0, b"", 0, True
        while new := file.read(BYTES):
            codes = np.frombuffer(new, np.uint8)
            open_quotes = (np.cumsum(codes == ord('"')) + quoted) % 2
            ends = np.flatnonzero((codes == ord("\n")) & (open_quotes == 0))
            quoted = int(open_quotes[-1])
            while header and len(ends):  # lines before the header that are blank are skipped, too
                skip = len(rest) + int(ends[0]) + 1
                header = not (rest + new)[:skip].strip()
                begin, rest, new = begin + skip, b"", (rest + new)[skip:]
                ends = ends[1:] - int(ends[0]) - 1
            if header or not len(ends):
                rest += new
                continue
            cut = int(ends[-1]) + 1
            raw = rest + new[:cut]
            yield begin, begin + len(raw), raw
            begin, rest = begin + len(raw), new[cut:]
        if rest and not header:
            yield begin, begin + len(rest), rest


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written: its size in bytes, the time, and its number."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino
