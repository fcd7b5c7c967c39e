"""Which parameters have a row for each row of the data."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from credo.inference.pair.autoguide import with_guide
from credo.inference.pair.batches import Rows, batch
from credo.inference.pair.pair import Pair
from credo.inference.pair.tables import find_tables
from tests.cases import row_latents

N = 12
Y = row_latents.data(N)


def tables_of(model, guide, *data):
    with pyro.get_param_store().scope():
        guide(*data)
        return find_tables(Pair(model, guide, data), (0,), N)


def test_parameters_of_the_latents_of_rows_are_tables():
    assert tables_of(row_latents.model, row_latents.guide, Y) == {"loc", "scale"}


def test_parameters_of_a_mean_field_guide_are_tables():
    guide = with_guide(row_latents.model, None)[1]
    assert tables_of(row_latents.model, guide, Y) == {"AutoNormal.locs.z", "AutoNormal.scales.z"}


def test_a_parameter_with_as_many_entries_as_rows_is_left_whole():
    """Weights of N columns, and what all rows read: their size is a coincidence."""

    def model(x):
        with pyro.plate("D", x.shape[1]):
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z + x @ w, 1.0), obs=x[:, 0])

    def guide(x):
        loc, shift = pyro.param("w.loc", torch.zeros(N)), pyro.param("shift", torch.zeros(N))
        own = pyro.param("own", torch.zeros(len(x)))
        with pyro.plate("D", x.shape[1]):
            pyro.sample("w", dist.Normal(loc, 1.0))
        with pyro.plate("N", len(x)):
            pyro.sample("z", dist.Normal(own + shift.cumsum(0)[: len(x)], 1.0))

    assert tables_of(model, guide, torch.randn(N, N)) == {"own"}


def test_a_batch_reads_its_rows_of_a_table():
    index = torch.tensor([7, 2, 5])
    with pyro.get_param_store().scope():
        row_latents.guide(Y)
        pyro.get_param_store()["loc"] = torch.arange(float(N))
        pyro.get_param_store()["scale"] = torch.arange(1.0, N + 1)
        rows = Rows((0,), N, 3, frozenset({"N"}), frozenset({"loc", "scale"}))
        part = batch(Pair(row_latents.model, row_latents.guide, (Y,)), rows, index)
        fn = poutine.trace(part.guide).get_trace(*part.data).nodes["z"]["fn"]
        assert torch.equal(fn.loc, torch.tensor([7.0, 2.0, 5.0]))
        assert torch.allclose(fn.scale, torch.tensor([8.0, 3.0, 6.0]))
