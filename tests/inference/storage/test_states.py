"""Parameters and networks of a run, put into the networks of another one."""

import pyro
import pytest
import torch
from pyro.distributions import constraints
from torch import nn

from credo.inference.runtime.state import entered, new_state
from credo.inference.storage.states import parts_of, placed, roots

CPU = torch.device("cpu")


def net(seed, width=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def run(*networks, scale=1.0):
    """The state of a run with these networks, whose weights are parameters of the store, and one more parameter."""
    state = new_state(networks, 0, CPU)
    with entered(state):
        for i, network in enumerate(networks):
            pyro.module(f"net{i}", network)
        pyro.param("scale", torch.tensor(scale), constraint=constraints.positive)
    return state


def test_weights_buffers_and_parameters_are_put_in_place():
    one, other = net(1), net(2)
    parts = parts_of(run(one, scale=3.0))
    fresh = new_state((other,), 0, CPU)
    with entered(fresh):
        pyro.module("net0", other)
        pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        found = placed(parts, (other,), CPU)
    with entered(found, seed=0):
        assert torch.equal(other[0].weight, one[0].weight) and pyro.param("scale").item() == pytest.approx(3.0)
        assert pyro.get_param_store().get_state()["params"]["net0$$$0.weight"] is other[0].weight
    assert not torch.equal(other[0].weight, one[0].weight)  # outside of the run


def test_networks_are_told_apart_by_their_layers():
    small, large = net(1, 3), net(2, 5)
    parts = parts_of(run(small, large))
    assert len(roots(run(small, large))) == 2
    others = net(3, 5), net(4, 3)
    with entered(new_state(others, 0, CPU)):
        pyro.module("net1", others[0]), pyro.module("net0", others[1])
        pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        found = placed(parts, others, CPU)
    with entered(found, seed=0):
        assert torch.equal(others[0][0].weight, large[0].weight) and torch.equal(others[1][0].weight, small[0].weight)


@pytest.mark.parametrize(
    "programs, said",
    [
        ((), "the fit has a network .Sequential with 0.weight .3, 2.*. that these model and guide do not reach"),
        ((net(1, 4),), r"Sequential: its 0.bias has shape \(4,\) here and \(3,\) in the fit"),
        ((net(1), nn.Linear(1, 1)), "a network .Linear. that these model and guide use is none of the fit"),
    ],
)
def test_other_networks_are_refused(programs, said):
    parts = parts_of(run(net(1)))
    with entered(new_state(programs, 0, CPU)), pytest.raises(ValueError, match=said):
        placed(parts, programs, CPU)


def test_other_parameters_are_refused():
    parts = parts_of(run())
    with entered(new_state((), 0, CPU)), pytest.raises(ValueError, match="'scale': the fit has, but these"):
        placed(parts, (), CPU)
    with entered(new_state((), 0, CPU)):
        pyro.param("scale", torch.ones(2), constraint=constraints.positive)
        with pytest.raises(ValueError, match=r"'scale': these model and guide make it in shape \(2,\)"):
            placed(parts, (), CPU)
