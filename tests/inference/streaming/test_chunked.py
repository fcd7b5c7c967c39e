"""A source of a memory map and a tensor: its chunks are the rows of both, in any order."""

import numpy as np
import torch

from credo.inference.streaming import sizes
from credo.inference.streaming.source import source_of


def model(x, y=None):
    return x, y


def test_chunks_hold_the_rows_of_all_arguments(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "WINDOW", 2_000)
    monkeypatch.setattr(sizes, "CHUNK", 400)
    x = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    x.tofile(tmp_path / "x")
    y = torch.arange(300.0)
    source = source_of(model, (np.memmap(tmp_path / "x", np.float32, "r", shape=(300, 3)), y), 10)
    assert source is not None and source.n == 300 and source.names_of_rows() == ["x", "y"]
    read = [source.read(k) for k in range(len(source.chunks))]
    assert len(read) > 1 and torch.equal(torch.cat([part[1] for part in read]), y)
    assert torch.equal(torch.cat([part[0] for part in read]), torch.from_numpy(x))
    last, first = source.stream([len(source.chunks) - 1, 0])
    assert torch.equal(first[1], y[source.chunks[0]]) and torch.equal(last[1], y[source.chunks[-1]])
