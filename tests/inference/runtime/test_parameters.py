"""The parameters of the store as leaves, one vector and constrained values, compared with the tensors put in."""

import pyro
import pytest
import torch
from torch import nn
from torch.distributions import constraints

from credo.inference.runtime.parameters import all_finite, constrained, flat_parameters, place_parameters, unconstrained


@pytest.fixture(autouse=True)
def store():
    """A positive parameter, a matrix that does not lie contiguously in memory, and one in double precision."""
    pyro.param("scale", torch.tensor([0.5, 2.0]), constraint=constraints.positive)
    pyro.param("matrix", torch.arange(6.0).reshape(2, 3).T)
    pyro.param("double", torch.tensor(1 / 3, dtype=torch.float64))


def test_the_leaves_are_unconstrained_and_without_baselines():
    pyro.param("__baseline_avg_z", torch.tensor(3.0))
    leaves = unconstrained()
    assert list(leaves) == ["scale", "matrix", "double"]
    torch.testing.assert_close(leaves["scale"].detach(), torch.tensor([0.5, 2.0]).log())
    assert all(leaf.is_leaf and leaf.requires_grad for leaf in leaves.values())


def test_a_tensor_with_two_names_is_one_leaf():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    pyro.module("net", net)
    leaves = [leaf for name, leaf in unconstrained().items() if name.startswith("net")]
    assert len({id(leaf) for leaf in leaves}) == len(leaves) == 3  # a weight and two biases


def test_a_flat_vector_goes_back_where_it_came_from():
    leaves = unconstrained()
    flat = flat_parameters(leaves.values())
    assert flat.tolist() == pytest.approx([*torch.tensor([0.5, 2.0]).log().tolist(), 0, 3, 1, 4, 2, 5, 1 / 3])
    place_parameters(flat + 1, leaves.values())
    assert unconstrained()["scale"] is leaves["scale"]  # in place: the optimiser holds these tensors
    torch.testing.assert_close(pyro.param("scale").detach(), torch.tensor([0.5, 2.0]) * torch.e)
    torch.testing.assert_close(pyro.param("matrix").detach(), torch.arange(6.0).reshape(2, 3).T + 1)
    double = pyro.param("double")
    assert double.dtype == torch.float64 and double.item() == pytest.approx(4 / 3, abs=1e-15)
    with pytest.raises(RuntimeError):
        place_parameters(flat[:-1], leaves.values())


def test_constrained_values_are_copies():
    values = constrained()
    torch.testing.assert_close(values["scale"], torch.tensor([0.5, 2.0]))
    assert not values["scale"].requires_grad
    values["matrix"].zero_()
    torch.testing.assert_close(pyro.param("matrix").detach(), torch.arange(6.0).reshape(2, 3).T)


@pytest.mark.parametrize("size", [3, 2**15])
@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("at", [0, 1])
def test_a_single_number_that_is_not_finite_is_seen(size, bad, at):
    tensors = [torch.ones(2, size), torch.ones(size, requires_grad=True), torch.ones((), dtype=torch.float64)]
    if bad is not None:
        tensors[at].detach()[..., -1] = bad
    assert all_finite(tensors) is (bad is None)


def test_a_sum_that_overflows_is_finite_all_the_same():
    assert all_finite([torch.full((5,), 3e38)]) and all_finite([]) and all_finite([torch.full((2**15,), 3e38)])
    assert not all_finite([torch.tensor([float("inf"), -float("inf")])])
    assert not all_finite([torch.tensor([1.0, 0.0, float("nan")]).to_sparse()])
    assert all_finite([torch.tensor([1.0, 0.0, 2.0]).to_sparse()])


def test_a_tensor_that_needs_no_gradient_is_a_constant():
    """It is not trained, and is among the parameters of the result."""
    pyro.param("centre", torch.tensor(3.0)).requires_grad_(False)
    assert "centre" not in unconstrained()
    assert constrained()["centre"].item() == 3.0
    assert set(constrained()) == {"centre", "scale", "matrix", "double"}
    pyro.get_param_store()["centre"] = torch.tensor(4.0)  # Pyro makes a value that is set trainable
    assert "centre" in unconstrained()
