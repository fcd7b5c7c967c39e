"""Files as tables, read whole; what is a file and what is not."""

import builtins
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from credo.inference.inputs import files
from credo.inference.inputs.files import csv_table, is_csv, is_parquet, table_of_file
from credo.inference.inputs.tables import as_table

TABLE = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})


def test_what_is_a_file():
    assert (
        is_csv(Path("a.csv"))
        and is_csv(Path("a.CSV.gz"))
        and is_parquet(Path("a.parquet"))
        and is_parquet(Path("b.pq"))
    )
    assert not any(map(is_csv, ("a.csv", Path("a.txt"), Path("csv"), TABLE)))
    assert not any(map(is_parquet, ("a.parquet", Path("a.csv"), TABLE, None)))


def test_csv_files_are_tables(tmp_path):
    TABLE.to_csv(tmp_path / "a.csv", index=False)
    TABLE.to_csv(tmp_path / "a.csv.gz", index=False)
    assert as_table(tmp_path / "a.csv").equals(TABLE) and table_of_file(tmp_path / "a.csv.gz").equals(TABLE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,a\n1,2\n", "two columns are called 'a'"),
        ("a,b\n", "has no rows; wanted a header line"),
        ("a,b\n1,2,3\n4,5,6\n", "hold more values than its header line has names"),
        ("a;b\n1;2\n", "its columns are separated by ';', wanted commas"),
        ("a,b\n1,2\n1,2,3\n", "cannot be read as a CSV file"),
    ],
)
def test_csv_files_whose_columns_are_not_clear_are_refused(tmp_path, text, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=f"a.csv: .*{said}"):
        csv_table(tmp_path / "a.csv")


def test_files_that_are_not_there_and_readers_that_read_once(tmp_path):
    for path in (tmp_path / "a.csv", tmp_path / "a.parquet"):
        with pytest.raises(ValueError, match="got no file, wanted a file with a table"):
            table_of_file(path)
    TABLE.to_csv(tmp_path / "a.csv", index=False)
    with (
        pd.read_csv(tmp_path / "a.csv", chunksize=1) as reader,
        pytest.raises(ValueError, match="read only once; pass the path of the file"),
    ):
        as_table(reader)


def test_parquet_needs_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").touch()

    def missing(name):
        raise builtins.ImportError(name)

    monkeypatch.setattr(files.importlib, "import_module", missing)
    with pytest.raises(ValueError, match="Parquet files are read by pyarrow, which is not here: pip install pyarrow"):
        table_of_file(tmp_path / "a.parquet")


def test_parquet_files_and_handles_are_tables(tmp_path):
    pytest.importorskip("pyarrow")
    dataset, parquet = pytest.importorskip("pyarrow.dataset"), pytest.importorskip("pyarrow.parquet")
    TABLE.to_parquet(tmp_path / "a.parquet", index=False)
    for value in (tmp_path / "a.parquet", parquet.ParquetFile(tmp_path / "a.parquet"), dataset.dataset(tmp_path)):
        found = as_table(value)
        assert np.array_equal(found["a"], TABLE["a"]) and found["b"].tolist() == ["x", "y"]
