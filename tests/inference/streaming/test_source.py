"""What is read by chunks, what is read whole, and the errors of rows that cannot be read together."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from credo.inference.streaming import csv_file, iterables, sizes, source
from credo.inference.streaming.source import is_elsewhere, rows_of_window, source_of

N = 600


def model(x, g, y=None):
    pass


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(sizes, "WINDOW", 4000)
    monkeypatch.setattr(sizes, "CHUNK", 400)
    monkeypatch.setattr(csv_file, "BYTES", 900)


@pytest.fixture
def table():
    labels = np.where(np.arange(N) == 555, "rare", np.where(np.arange(N) % 2, "odd", "even"))
    return pd.DataFrame({"a": np.arange(N), "b": np.arange(N) / 2, "g": labels, "y": np.arange(N) % 2 == 1})


def whole(found):
    """All rows, for each argument, from chunks in the opposite order."""
    order = range(len(found.chunks))[::-1]
    parts = list(found.stream(order))[::-1]
    return [torch.cat(values) for values in zip(*parts, strict=True)]


def test_a_csv_file_is_what_its_table_would_be(tmp_path, table):
    table.to_csv(tmp_path / "rows.csv", index=False)
    found = source_of(model, (tmp_path / "rows.csv",), 10)
    x, g, y = whole(found)
    assert (found.n, found.names, found.columns) == (N, ["x", "g", "y"], (["a", "b"], None, None))
    assert found.codes == {"g": ["even", "odd", "rare"]} and "0 (even), 1 (odd), 2 (rare)" in found.notices[0]
    assert torch.equal(x, torch.tensor(table[["a", "b"]].to_numpy()))
    assert g.dtype == torch.int64 and torch.equal(g, torch.tensor(pd.Categorical(table["g"]).codes.astype(int)))
    assert y.dtype == torch.bool and torch.equal(y, torch.tensor(table["y"].to_numpy()))


def test_rows_of_files_stand_beside_rows_in_memory_and_other_arguments(tmp_path, table):
    x = np.memmap(tmp_path / "x", dtype="u1", mode="w+", shape=(N, 2))
    x[:] = np.arange(N)[:, None] % 251
    net = torch.nn.Linear(2, 1)
    found = source_of(lambda net, x, g, y: None, (net, x, table["g"].tolist(), torch.arange(N)), 10)
    assert found.rows == (1, 2, 3) and found.others[0] is net and found.given([1, 2, 3]) == (net, 1, 2, 3)
    values = whole(found)
    assert values[0].dtype == torch.int64 and torch.equal(values[0][:, 1], torch.arange(N) % 251)
    assert values[1].bincount().tolist() == [300, 299, 1] and torch.equal(values[2], torch.arange(N))


def test_rows_that_fit_or_need_no_batches_are_read_whole(tmp_path, table, monkeypatch):
    x = np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(N, 2))
    assert source_of(model, (x[:100], np.ones(100)), 10) is None  # no more than a window
    assert source_of(model, (x, np.ones(N))) is None and source_of(model, (x, np.ones(N)), N) is None
    assert source_of(model, (torch.ones(N, 9), torch.ones(N)), 10) is None  # in memory already
    table.to_csv(tmp_path / "rows.csv", index=False)
    assert source_of(model, (tmp_path / "rows.csv",)) is None
    monkeypatch.setattr(sizes, "free_memory", lambda: 5000)
    monkeypatch.setattr(csv_file, "free_memory", lambda: 5000)
    for data in ((x, np.ones(N)), (tmp_path / "rows.csv",)):
        with pytest.raises(ValueError, match=r"batch_size: .* has 600 rows, .* pass batch_size=1000"):
            source_of(model, data)


def test_other_numbers_of_rows_are_named(tmp_path):
    one = np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(N, 2))
    with pytest.raises(ValueError, match=r"g: got 599 rows \(np.memmap g\) beside 600 rows \(np.memmap x\)"):
        source_of(model, (one, one[1:]), 10)
    with pytest.raises(ValueError, match="y: this argument of the model is missing"):
        source_of(lambda x, g, y: None, (one, one), 10)


def test_no_rows_are_said_to_be_none(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"np\.memmap x: has no rows"):
        source_of(model, (np.load(tmp_path / "x.npy", mmap_mode="r"), torch.zeros(0)), 10)


def test_tables_are_paired_by_their_index_as_in_memory(tmp_path, table):
    w = np.memmap(tmp_path / "w", dtype="f4", mode="w+", shape=N)
    keyed = table[["a"]].set_index(pd.Index([f"r{i}" for i in range(N)]))
    found = source_of(model, (w, keyed, keyed["a"][::-1]), 10)
    assert torch.equal(whole(found)[1][:, 0], whole(found)[2])
    with pytest.raises(ValueError, match="g and y have the same number of rows but different indexes"):
        source_of(model, (w, table[["a"]], table["a"][::-1]), 10)
    table[["a", "b"]].to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(ValueError, match="x and g have the same number of rows but different indexes"):
        source_of(model, (tmp_path / "rows.csv", table["a"][::-1]), 10)
    assert source_of(model, (tmp_path / "rows.csv", table["a"].to_numpy()[::-1].copy()), 10).n == N


def test_the_columns_of_chunks_are_in_one_order_and_their_tables_paired(monkeypatch):
    class Files:
        def __len__(self):
            return N

        def __iter__(self):
            rows = pd.DataFrame({"a": np.arange(N), "b": -np.arange(N)}, index=[f"r{i}" for i in range(N)])
            yield rows[:300], rows["a"][:300]
            yield rows[["b", "a"]][300:], rows["a"][300:][::-1]

    monkeypatch.setattr(iterables, "ROWS", 100)
    found = source_of(lambda x, y: None, (Files(),), 10)
    x, y = (torch.cat(values) for values in zip(*found.stream(range(len(found.chunks))), strict=True))
    assert x[:, 0].tolist() == list(range(N)) and y.tolist() == list(range(N))


def test_chunks_of_another_type_than_the_first_are_named(monkeypatch):
    class Growing:
        def __len__(self):
            return N

        def __iter__(self):
            yield pd.DataFrame({"x": range(300)})
            yield pd.DataFrame({"x": np.arange(300.0)})

    monkeypatch.setattr(iterables, "ROWS", 100)
    found = source_of(lambda x: None, (Growing(),), 10)
    with pytest.raises(
        ValueError, match=r"x: rows 300 to 399 hold torch.float64 where the first rows hold torch.int64"
    ):
        list(found.stream(range(len(found.chunks))))


class Drawn(Dataset):
    def __init__(self, drawn):
        self.drawn = drawn

    def __len__(self):
        return N

    def __getitem__(self, i):
        return np.full(2, i) + (np.random.rand() if self.drawn else 0.0), i


def test_a_dataset_that_draws_is_known_and_the_run_draws_as_before():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    still = source_of(model, (Drawn(False),), 10)
    drawing = source_of(model, (DataLoader(Drawn(True), batch_size=5),), 10)
    assert (still.draws, still.seeded, drawing.draws, drawing.seeded) == (False, False, True, True)
    apart = source_of(model, (DataLoader(Drawn(True), batch_size=5, num_workers=1),), 10)
    assert (apart.draws, apart.seeded) == (False, True)
    assert np.array_equal(before, np.random.get_state()[1])
    assert torch.equal(still.read(2)[1], torch.arange(still.chunks[2].start, still.chunks[2].stop))


def test_what_is_elsewhere(tmp_path):
    class Model:
        def __len__(self):
            return 3

        def __iter__(self):
            return iter("abc")

    net = torch.nn.Sequential(torch.nn.Linear(1, 1))
    here = [torch.ones(3), [1, 2], {"a": 1}, net, Model(), "rows.csv", tmp_path, tmp_path / "a.txt", None, 3, {1, 2}]
    assert not any(map(is_elsewhere, here)) and is_elsewhere(tmp_path / "a.csv") and is_elsewhere(Drawn(False))


def test_windows_are_multiples_of_the_batch(tmp_path):
    found = source_of(lambda x: None, (np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(N, 4)),), 10)
    assert found.bytes_of_row == 16 and rows_of_window(found, 7) == 196  # three windows of 200 rows, all but 4 of them
    assert rows_of_window(found, 300) == 300 and rows_of_window(found, 50, (0, 2)) == 150
    with pytest.raises(ValueError, match="batch_size: got 400 rows for each process, and each has 300"):
        rows_of_window(found, 400, (1, 2))
    assert source.Source is type(found)
