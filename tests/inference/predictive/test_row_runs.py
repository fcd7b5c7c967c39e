"""Runs of a prediction on some rows: what their values are, and where two runs agree."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.pair.pair import Pair
from credo.inference.posterior.local_latents import Sources
from credo.inference.predictive.row_runs import Grown, OfRows, compare, dims_of_rows, rows_dim, run_on_rows

X = torch.linspace(-1.0, 1.0, 6)


def model(x, shift=0.0):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(x)):
        z = pyro.sample("z", dist.Normal(w * x + shift, 1.0))
        pyro.deterministic("twice", 2 * z)


def run(rows, held_rows=None, shift=0.0, kept=None):
    values = (X[rows], shift)
    pair = Pair(model, lambda x, shift=0.0: None, (X, 0.0))
    return run_on_rows(pair, values, Sources(values), kept or {"w": torch.tensor(2.0)}, len(values[0]), 6, held_rows)


def test_a_run_with_one_more_row_has_the_values_of_the_others():
    one = run([0, 1, 2])
    values = {name: site["value"] for name, site in one.items()}
    for at, rows in ((1, [3, 0, 1, 2]), (0, [0, 1, 2, 3])):
        more = run(rows, Grown(values, 3, at))
        dims = dims_of_rows(one, more, 3)
        assert dims == {"z": 0, "twice": 0}
        assert torch.equal(more["z"]["value"][at : at + 3], values["z"]) and len(more["z"]["value"]) == 4
        compare(one, more, dims, range(at, at + 3), 4, ["w"])


def test_rows_of_all_rows_are_compared():
    together, dims = run([*range(6)]), {"z": 0, "twice": 0}
    values = {name: site["value"] for name, site in together.items()}
    compare(run([4, 5], OfRows(values, dims, [4, 5])), together, dims, [4, 5], 6, ["w"])
    with pytest.raises(ValueError, match="'z': a row depends on the other rows"):
        compare(run([4, 5], OfRows(values, dims, [4, 5]), shift=0.1), together, dims, [4, 5], 6, ["w"])
    with pytest.raises(ValueError, match="'w': it depends on which rows are given"):
        held = {"w": torch.tensor(3.0)}
        compare(run([4, 5], OfRows(values, dims, [4, 5]), kept=held), together, dims, [4, 5], 6, [])


def test_the_dimension_of_rows_is_one_that_counts_them():
    assert rows_dim(torch.zeros(2, 3), torch.zeros(2, 4), 3) == 1
    assert rows_dim(torch.zeros(1), torch.zeros(2), 3) is None  # a group more, not a row
    assert rows_dim(torch.zeros(3, 3), torch.zeros(4, 4), 3) is None
    assert rows_dim(torch.zeros(3), torch.zeros(4, 1), 3) is None
