"""A column that meets a vector is refused, where the model would score all pairs of rows; kernels are not."""

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import credo

X = torch.linspace(-1.0, 1.0, 6)
Y = 2 * X
TABLE = pd.DataFrame({"height": Y.numpy()})


def summed(x, y):
    """The squares of all pairs of rows, if y is a column: nothing tells it by the shape."""
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    pyro.factor("y", -0.5 * ((y - w * x) ** 2).sum())


def in_a_plate(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)


def matrix(x, y):
    w = pyro.sample("w", dist.Normal(torch.zeros(1), 10.0).to_event(1))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def columns(x, y):
    """Several responses, here one."""
    w = pyro.sample("w", dist.Normal(torch.zeros(1, 1), 10.0).to_event(2))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 1.0).to_event(1), obs=y)


def kernel(x, y):
    """A Gaussian process whose kernel is written with a column and its own row."""
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    between = torch.exp(-((x - x.squeeze(-1)) ** 2) / scale) + 0.1 * torch.eye(len(x))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), between), obs=y)


@pytest.mark.parametrize("model", [summed, in_a_plate])
@pytest.mark.parametrize("y", [TABLE, Y[:, None]], ids=["a table of one column", "a column"])
def test_a_column_that_makes_a_matrix_is_refused_by_name(model, y, unchanged):
    words = r"y: a column of shape \(6, 1\) meets a vector of shape \(6,\).*y.squeeze\(-1\)"
    with unchanged(), pytest.raises(ValueError, match=words):
        credo.fit(model, None, X, y, progress=False)


def test_exact_refuses_it_too():
    with pytest.raises(ValueError, match=r"y: a column of shape \(6, 1\)"):
        credo.exact(summed, X, Y[:, None])


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (summed, (X, Y)),
        (matrix, (X[:, None], Y)),
        (columns, (X[:, None], TABLE)),
        (kernel, (X[:, None], Y)),
        (summed, (X[:1, None], Y[:1])),
    ],
    ids=["vectors", "a matrix of one column", "columns", "a kernel", "one row"],
)
def test_sound_columns_are_not_refused(model, data):
    assert credo.fit(model, None, *data, steps=2, progress=False, compile=False).losses
