"""Files as tables: a `pathlib.Path` of a CSV or Parquet file, and pyarrow's own handles of Parquet files.

Parquet needs pyarrow, which is imported where such a file is read. A path given as text is no file: text is data.
"""

import importlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from ..runtime.traced import first_line
from .arrow import from_arrow

CSV, PARQUET = (".csv",), (".parquet", ".pq")
PACKED = (".gz", ".bz2", ".zip", ".xz", ".zst")


def is_csv(value: Any) -> bool:
    """Whether this is the path of a CSV file, packed or not."""
    return isinstance(value, Path) and any(suffix.lower() in CSV for suffix in value.suffixes[-2:])


def is_parquet(value: Any) -> bool:
    """Whether this is the path of a Parquet file, pyarrow's ParquetFile, or a Dataset of pyarrow's."""
    if isinstance(value, Path):
        return value.suffix.lower() in PARQUET
    return any((c.__module__.partition(".")[0], c.__name__) in HANDLES for c in type(value).__mro__)


HANDLES = (("pyarrow", "ParquetFile"), ("pyarrow", "Dataset"))


def table_of_file(value: Any) -> pd.DataFrame:
    """All rows of a file as a table. Raises ValueError, which names the file, for one that cannot be read."""
    if is_csv(value):
        return csv_table(value)
    try:
        opened = parquet_file(value)
        return _as_frame(opened.read() if hasattr(opened, "read") else opened.to_table())
    except OSError as error:
        raise ValueError(f"{value}: cannot be read as a Parquet file ({first_line(error)})") from None


def parquet_file(value: Any) -> Any:
    """The file behind a path as pyarrow's ParquetFile; a handle of pyarrow's as it came. Raises OSError, ValueError."""
    if not isinstance(value, Path):
        return value
    _there(value)
    try:
        return importlib.import_module("pyarrow.parquet").ParquetFile(value)
    except ImportError:
        raise ValueError(
            f"{value}: Parquet files are read by pyarrow, which is not here: pip install pyarrow"
        ) from None
    except OSError:
        raise
    except ValueError as error:  # pyarrow's ArrowInvalid
        raise ValueError(f"{value}: cannot be read as a Parquet file ({first_line(error)})") from None


def csv_table(path: Path) -> pd.DataFrame:
    """The table in a CSV file.

    Raises ValueError for a file that cannot be read, has no rows, two columns of one name, or rows that are longer than
    its header.
    """
    return _read_csv(path, None)


def names_in(path: Path, rows: int) -> list[Any]:
    """The names of the columns of a CSV file, which so many rows fit. Raises ValueError as `csv_table`."""
    return list(_read_csv(path, rows).columns)


def _read_csv(path: Path, rows: int | None) -> pd.DataFrame:
    """The table in a CSV file; its first rows, or all of them."""
    _there(path)
    try:
        table = pd.read_csv(path, nrows=rows)
        header = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:  # pandas' own are ValueErrors
        packed = "; wanted one CSV file, unpack it first" if "ZIP" in str(error) else ""
        raise ValueError(f"{path}: cannot be read as a CSV file ({error}){packed}") from None
    if table.empty:
        raise ValueError(f"{path}: has no rows; wanted a header line with column names, and data below it")
    if len(twice := header[header.duplicated() & header.notna()]):
        raise ValueError(f"{path}: two columns are called {twice.iloc[0]!r}; rename one of them")
    n = len(table)
    if not any(table.index.equals(pd.RangeIndex(first, first + n)) for first in (0, 1)):  # row names, pandas thinks
        raise ValueError(
            f"{path}: its rows hold more values than its header line has names, {list(table.columns)}; name every "
            f"column, or remove the comma at the end of the rows"
        )
    (first, *others) = table.columns
    separators = [mark for mark in ";\t|" if mark in str(first) and not others]
    if separators:
        raise ValueError(f"{path}: its columns are separated by {separators[0]!r}, wanted commas")
    return table


def _there(path: Path) -> None:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device" if path.exists() else "no file"
        raise ValueError(f"{path}: got {kind}, wanted a file with a table")


def _as_frame(table: Any) -> pd.DataFrame:
    found = from_arrow(table)
    assert isinstance(found, pd.DataFrame)
    return found
