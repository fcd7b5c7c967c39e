"""Rows that do not fit into a window: a small window, rows in files, and models of them whose posterior is known."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from credo.inference.gaussian.density import prepared
from credo.inference.importance.all_rows import AllRows
from credo.inference.runtime.defaults import CPU
from credo.inference.streaming import sizes
from credo.inference.streaming.source import source_of

N, D, FEW = 3_000, 2, 256
_G = torch.Generator().manual_seed(0)
X = torch.randn(N, D, generator=_G)
W = torch.tensor([0.5, -1.0])
Y = (torch.rand(N, generator=_G) < torch.sigmoid(X @ W + 0.3)).float()


def logistic(x, y):
    """Weights with a prior, an observation that is no row, and rows."""
    w = pyro.sample("w", dist.StudentT(3.0, torch.zeros(D), 1.0).to_event(1))
    b = pyro.sample("b", dist.Normal(0.0, 10.0))
    pyro.sample("known", dist.Normal(b, 1.0), obs=torch.tensor(0.2))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=x @ w + b), obs=y)


Z = X @ W + 0.7 * torch.randn(N, generator=_G)
_PRECISION = X.double().T @ X.double() / 0.49 + torch.eye(D) / 100
MEAN = torch.linalg.solve(_PRECISION, X.double().T @ Z.double() / 0.49)  # of the weights of `regression`, given Z
SD = torch.linalg.inv(_PRECISION).diagonal().sqrt()


def regression(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(D), 10.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 0.7), obs=y)


def small_windows(monkeypatch, bytes_of_row=12, rows=1_000):
    """A window of so many rows, in chunks of 200."""
    monkeypatch.setattr(sizes, "WINDOW", bytes_of_row * rows)
    monkeypatch.setattr(sizes, "CHUNK", bytes_of_row * 200)


def in_files(folder, *tensors):
    """The tensors as memory-mapped arrays."""
    found = []
    folder.mkdir(exist_ok=True)
    for i, tensor in enumerate(tensors):
        np.save(folder / f"{i}.npy", tensor.numpy())
        found.append(np.load(folder / f"{i}.npy", mmap_mode="r"))
    return tuple(found)


def all_rows(model, files, order=None):
    """(All rows of these files, the state to run in); some rows of them are at hand."""
    source = source_of(model, files, 1)
    index = torch.arange(FEW) if order is None else order[:FEW]
    some = tuple(torch.from_numpy(np.array(value))[index] for value in files)
    density, state, _ = prepared(model, some, CPU, 0)
    return AllRows(density, source), state
