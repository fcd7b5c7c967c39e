"""The rows on which a plan is made."""

import pyro
import pyro.distributions as dist
import torch
from torch.nn import functional

from credo.inference.pair.batches import Rows, batch
from credo.inference.pair.pair import Pair
from credo.inference.planning.few_rows import FEW, few_rows
from credo.inference.runtime.generators import torch_states


def model(x):
    w = pyro.sample("w", dist.Normal(torch.zeros(1000, x.shape[1]), 1.0).to_event(2))
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(functional.linear(x, w).mean(-1), 1.0), obs=x[:, 0])


def guide(x):
    pyro.sample("w", dist.Normal(pyro.param("loc", torch.zeros(1000, x.shape[1])), 0.1).to_event(2))


def parts(columns, size):
    whole, rows = Pair(model, guide, (torch.randn(500, columns),)), Rows((0,), 500, size, frozenset({"N"}))
    return whole, batch(whole, rows, torch.arange(size)), rows


def test_a_heavy_batch_is_planned_on_few_rows_scaled_to_all_and_a_light_one_is_not():
    heavy = parts(4000, 100)
    before = torch_states()
    with pyro.get_param_store().scope():
        few = few_rows(*heavy)
    assert all(map(torch.equal, before, torch_states()))
    assert few is not None and few.data[0].shape == (FEW, 4000) and few.factor == 500 / FEW
    with pyro.get_param_store().scope():
        assert few_rows(*parts(2, 100)) is None and few_rows(*parts(2, FEW)) is None
