"""A site that stands in a subsampled plate in the model only is refused; test_check has names and shapes."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from tests.cases.checked import X, look, warned


def local(x):
    with pyro.plate("rows", len(x), subsample_size=10) as index:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])


def outside(x):
    pyro.sample("z", dist.Normal(pyro.param("m", torch.zeros(10)), 1.0).to_event(1))


def inside(x):
    with pyro.plate("rows", len(x), subsample_size=10) as index:
        pyro.sample("z", dist.Normal(pyro.param("m", torch.zeros(40))[index], 1.0))


def test_log_q_outside_of_a_subsampled_plate_would_not_be_scaled():
    with pytest.raises(ValueError, match=r"site 'z'.*plate 'rows'.*10 of 40 rows.*by 4;.*same plate in the guide"):
        look(local, outside, X)
    assert warned(local, inside, X) == ""


def test_a_whole_plate_of_the_model_may_be_an_event_of_the_guide():
    def model(x):
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("m", torch.zeros(40)), 1.0).to_event(1))

    assert warned(model, guide, X) == ""
