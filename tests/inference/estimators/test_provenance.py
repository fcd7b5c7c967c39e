"""Which draws a log density was computed from, and which have escaped into Python before."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from credo.inference.estimators.provenance import by_provenance
from credo.inference.pair.costs import DATA, GUIDE, PRIOR
from credo.inference.pair.pair import Pair

X = torch.tensor(0.5)


@pytest.fixture(autouse=True)
def unvalidated():
    """As in a run: validation reads values, and so every draw would escape."""
    with pyro.validation_enabled(False):
        yield


def guide(x):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("b", dist.Normal(2 * a, 1.0))
    pyro.sample("c", dist.Normal(0.0, 1.0))


def test_names_travel_through_operations():
    def model(x):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        c = pyro.sample("c", dist.Normal(torch.stack([a, b]).sum().exp(), 1.0))
        pyro.sample("x", dist.Normal(c, 1.0), obs=x)

    found = by_provenance(Pair(model, guide, (X,)))
    assert found[GUIDE, "a"] == set() and found[GUIDE, "b"] == {"a"} and found[GUIDE, "c"] == set()
    assert found[PRIOR, "c"] >= {"a", "b"} and "c" in found[DATA, "x"]


def test_a_value_that_escapes_into_python_is_in_all_that_follows():
    def model(x):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        loc = 1.0 if a > 0 else 0.0
        pyro.sample("b", dist.Normal(loc, 1.0))
        pyro.sample("c", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    found = by_provenance(Pair(model, guide, (X,)))
    assert all("a" in found[key] for key in ((PRIOR, "b"), (PRIOR, "c"), (DATA, "x")))


def test_a_pair_that_tracked_tensors_cannot_run_gives_nothing():
    def model(x):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        assert type(a) is torch.Tensor
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    assert by_provenance(Pair(model, guide, (X,))) == {}
