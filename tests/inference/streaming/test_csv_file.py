"""CSV files by byte ranges: what pandas reads of the whole file."""

import numpy as np
import pandas as pd
import pytest

from credo.inference.streaming import csv_file
from credo.inference.streaming.csv_file import of_csv

N = 300


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(csv_file, "BYTES", 700)


def chunks(path, order=None):
    part = of_csv(path)
    assert len(part.chunks) > 3
    wanted = [part.chunks[k] for k in order] if order else part.chunks
    return [table for (table,) in part.stream(wanted, None)], wanted


def test_chunks_in_any_order_hold_the_rows_of_the_whole_file(tmp_path, small):
    table = pd.DataFrame({"a": range(N), "b": np.arange(N) * 0.1, "late": range(N), "gone": range(N)})
    table["text"] = [f'he said "{i}",\nthen left' for i in range(N)]
    table["mixed"], table["yes"] = table["a"].astype(object), table["a"] > 3
    table.loc[N - 1, "mixed"] = "last"
    table["late"], table["gone"] = table["late"].astype(float), table["gone"].astype(float)
    table.loc[200, "late"] += 0.5
    table.loc[250, "gone"] = np.nan
    for path, ending in ((tmp_path / "a.csv", "\n"), (tmp_path / "b.csv", "\r\n")):
        table.to_csv(path, index=False, lineterminator=ending)
        found, _ = chunks(path)
        whole = pd.read_csv(path)
        joined = pd.concat(found, ignore_index=True)
        for name in ("a", "b", "late", "gone", "yes"):
            assert joined[name].dtype == whole[name].dtype and all(t[name].dtype == whole[name].dtype for t in found)
            np.testing.assert_array_equal(joined[name], whole[name])
        assert joined["text"].tolist() == whole["text"].tolist()
        assert joined["mixed"].tolist() == [*map(str, range(N - 1)), "last"]
        few, rows = chunks(path, [4, 0, 2])
        for one, place in zip(few, rows, strict=True):
            assert one["a"].tolist() == list(range(place.start, place.stop))


def test_a_last_line_without_an_end_and_blank_lines_count_as_pandas_counts_them(tmp_path, small):
    path = tmp_path / "a.csv"
    path.write_text("\n\na,b\n" + "\n".join(f"{i},{i}" + "\n" * (i % 3 == 0) for i in range(N)))
    found, _ = chunks(path)
    assert pd.concat(found, ignore_index=True).equals(pd.read_csv(path))


def test_files_that_cannot_be_read_by_chunks_are_refused(tmp_path, small):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,2\n" * 1200 + "1,2,3\n" + "1,2\n" * 300)
    with pytest.raises(ValueError, match=r"a\.csv: cannot be read as a CSV file .*saw 3"):
        of_csv(path)
    path.write_text("a,a\n" + "1,2\n" * 300)
    with pytest.raises(ValueError, match="two columns are called 'a'"):
        of_csv(path)
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "a.csv.gz")
    with pytest.raises(ValueError, match="a packed file cannot be read by chunks; unpack it first"):
        of_csv(tmp_path / "a.csv.gz")


def test_a_file_that_changes_or_vanishes_is_named(tmp_path, small):
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "".join(f"{i}\n" for i in range(1000)))
    part = of_csv(path)
    stream = part.stream(part.chunks, None)
    next(stream)
    path.write_text("a\n" + "".join(f"{i}\n" for i in range(900)))
    with pytest.raises(ValueError, match=r"a\.csv: rows \d+ to \d+ cannot be read, since the file was changed"):
        next(stream)
    path.unlink()
    with pytest.raises(ValueError, match=r"a\.csv: rows .* cannot be read .*No such file"):
        next(part.stream(part.chunks, None))
