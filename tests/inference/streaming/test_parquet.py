"""Parquet files by row groups, in any order; files that change or vanish."""

import numpy as np
import pandas as pd
import pytest

from credo.inference.streaming import sizes
from credo.inference.streaming.parquet import of_parquet
from credo.inference.streaming.source import source_of

pa = pytest.importorskip("pyarrow")
dataset, parquet = pytest.importorskip("pyarrow.dataset"), pytest.importorskip("pyarrow.parquet")
N = 100


@pytest.fixture
def path(tmp_path):
    table = pa.table({"a": np.arange(N), "b": pd.Categorical(["x", "y"] * 50), "c": [f"n{i}" for i in range(N)]})
    parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=16)
    return tmp_path / "rows.parquet"


def test_row_groups_of_a_path_a_file_and_a_dataset(path):
    for value in (path, parquet.ParquetFile(path), dataset.dataset([path, path])):
        part = of_parquet(value)
        times = 1 if part.n == N else 2
        assert part.n == N * times and len(part.chunks) == 7 * times
        order = list(part.chunks)[::-2]
        for rows, (table,) in zip(order, part.stream(order, None), strict=True):
            assert table["a"].tolist() == [i % N for i in range(rows.start, rows.stop)]
            assert table["b"].tolist() == ["xy"[i % 2] for i in range(rows.start, rows.stop)]


def test_large_row_groups_are_told_of(path, monkeypatch):
    monkeypatch.setattr(sizes, "WINDOW", 400)
    assert "its row groups have up to 16 rows" in source_of(lambda a, b, c=None: None, (path,), 5).notices[-1]


def test_files_that_are_none_and_files_that_were_cut_short(path, tmp_path):
    (tmp_path / "no.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"no\.parquet: cannot be read as a Parquet file"):
        of_parquet(tmp_path / "no.parquet")
    part = of_parquet(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"rows\.parquet: rows 96 to 99 cannot be read .*was the file changed"):
        list(part.stream(part.chunks[-1:], None))


def test_columns_that_hold_no_numbers_are_said(path):
    parquet.write_table(pa.table({"a": [[1.0, 2.0]] * N}), path)
    with pytest.raises(ValueError, match=r"rows 0 to 99 cannot .* \(column 'a' has Arrow's type .*leave it out\)$"):
        list(of_parquet(path).stream([slice(0, N)], None))
