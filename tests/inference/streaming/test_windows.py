"""Windows: each row once an epoch, the same rows again from a state, other rows for other processes."""

import numpy as np
import pytest
import torch

from credo.inference.streaming import sizes
from credo.inference.streaming.source import rows_of_window, source_of
from credo.inference.streaming.windows import Windows

N = 5000


def model(net, x, y):
    pass


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Rows of a file: x[i] = (i, i, i), y[i] = i."""
    monkeypatch.setattr(sizes, "WINDOW", 20_000)
    monkeypatch.setattr(sizes, "CHUNK", 1000)
    x = np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(N, 3))
    x[:] = np.arange(N)[:, None]
    return source_of(model, (None, x, np.arange(N)), 10)


def test_each_row_comes_once_an_epoch_with_its_own_values(source):
    windows = Windows(source, 1000, seed=3)
    for _ in range(2):
        seen = []
        for _ in range(5):
            (x, y), numbers = windows.next()
            assert torch.equal(y, numbers) and torch.equal(x, numbers[:, None].float().expand(-1, 3))
            seen.append(numbers)
        assert torch.equal(torch.cat(seen).sort().values, torch.arange(N))
        assert not torch.equal(seen[0].sort().values, torch.arange(1000))
    windows.close()


def test_a_state_gives_the_same_windows_again(source):
    first, again = Windows(source, 700, seed=1), Windows(source, 700, seed=9)
    states = []
    found = []
    for _ in range(10):
        found.append(first.next())
        states.append(first.state)
    for start in (0, 4, 6, 7):
        again.restore(states[start])
        for window in found[start : start + 2]:
            other = again.next()
            assert torch.equal(window.numbers, other.numbers)
            assert all(torch.equal(a, b) for a, b in zip(window.values, other.values, strict=True))
    first.close()
    again.close()


def test_processes_share_the_rows_in_equal_parts(source):
    size = rows_of_window(source, 10, (0, 3))
    parts = [Windows(source, size, 5, (rank, 3)) for rank in range(3)]
    assert len({w.number for w in parts}) == 1
    rows = torch.cat([w.next().numbers for w in parts for _ in range(w.number)])
    assert len(rows.unique()) == len(rows) > N - 3 * 10 * parts[0].number - 3
    for w in parts:
        w.close()


def test_a_value_that_is_not_finite_is_named_by_its_row(source, tmp_path):
    x = np.memmap(tmp_path / "x", dtype="f4", mode="r+", shape=(N, 3))
    x[4321, 1] = np.nan
    windows = Windows(source, 1000, 0)
    with pytest.raises(ValueError, match=r"x: 1 values in rows .* the first is nan at row 4,321, entry 1"):
        for _ in range(5):
            windows.next()
    windows.close()
    windows = Windows(source, 1000, 0, gaps={"x"})
    assert sum(int(windows.next().values[0].isnan().sum()) for _ in range(5)) == 1
    windows.close()
