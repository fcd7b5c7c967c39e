"""The state of a run as plain values. Oracle: the run that goes on without them."""

import io
import random

import numpy as np
import pyro
import pytest
import torch
from torch import nn
from torch.distributions import constraints

from credo.inference.runtime.plain_state import plain_generators, plain_state, put_generators, put_parameters, put_state


@pytest.fixture(autouse=True)
def _own_store():
    with pyro.get_param_store().scope(), torch.random.fork_rng(devices=[]):
        yield


def saved(plain):
    """Through torch.save and the loader that runs no program."""
    file = io.BytesIO()
    torch.save(plain, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def draws():
    return torch.randn(3).tolist(), random.random(), np.random.rand(3).tolist(), torch.randperm(9).tolist()


def test_generators_of_all_three_kinds_go_on():
    random.gauss(0, 1)  # leaves half a pair behind
    np.random.randn()
    plain = saved(plain_generators())
    wanted = draws(), random.gauss(0, 1), np.random.randn()
    draws()
    put_generators(plain)
    assert (draws(), random.gauss(0, 1), np.random.randn()) == wanted


def test_parameters_and_networks_come_back_in_place():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    net[1].momentum = 0.5
    loc = pyro.param("loc", torch.tensor([1.0, 2.0]))
    pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
    pyro.module("net", net[0])
    plain = saved(plain_state(net.modules()))
    before = {name: p.clone() for name, p in pyro.get_param_store().get_state()["params"].items()}
    running = net[1].running_mean.clone()
    with torch.no_grad():
        for p in pyro.get_param_store().get_state()["params"].values():
            p.add_(1.0)
        net[1].running_mean.add_(1.0)
    net[1].momentum, net.training = 0.1, False
    put_state(plain, net.modules())
    after = pyro.get_param_store().get_state()["params"]
    assert all(torch.equal(after[name], p) for name, p in before.items()) and after["loc"] is loc
    assert torch.equal(net[1].running_mean, running) and net[1].momentum == 0.5 and net.training
    assert not plain["networks"][1]["tensors"], "weights in the store are kept once"


def test_a_parameter_that_the_program_made_late_is_made_again():
    pyro.param("late", torch.tensor(0.3), constraint=constraints.unit_interval)
    plain = saved(plain_state([]))
    pyro.clear_param_store()
    put_state(plain, [])
    assert torch.isclose(pyro.param("late"), torch.tensor(0.3))
    assert pyro.get_param_store().get_state()["constraints"]["late"] is constraints.unit_interval


@pytest.mark.parametrize(
    ("values", "known", "message"),
    [
        ({"loc": torch.zeros(3)}, {}, r"'loc' has shape \(2,\) here, and \(3,\) there"),
        ({"mean": torch.zeros(2)}, {}, "'loc' is here, and not there: loc here, mean there"),
        ({"loc": torch.zeros(2), "more": torch.zeros(2)}, {"more": "Odd()"}, "'more' is there, and not here"),
        ({"loc": torch.zeros(2)}, {"loc": "GreaterThan(lower_bound=0.0)"}, "'loc' has constraint Real"),
    ],
    ids=["shape", "name", "unknown constraint", "constraint"],
)
def test_what_does_not_fit_is_named_and_nothing_changes(values, known, message):
    pyro.param("loc", torch.ones(2))
    with pytest.raises(ValueError, match=message):
        put_parameters(values, known)
    assert pyro.param("loc").tolist() == [1.0, 1.0]


def test_other_networks_are_refused():
    plain = plain_state(nn.Sequential(nn.Linear(2, 3)).modules())
    with pytest.raises(ValueError, match="networks differ: Sequential, Conv1d here, Sequential, Linear there"):
        put_state(plain, nn.Sequential(nn.Conv1d(2, 3, 1)).modules())
    with pytest.raises(ValueError, match=r"'weight' of a Linear has shape \(4, 2\) here"):
        put_state(plain, nn.Sequential(nn.Linear(2, 4)).modules())
