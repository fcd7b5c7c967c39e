"""The gradient of a loss in all parameters of the current store, beside autograd on the same function."""

import pyro
import torch
from torch.distributions import constraints

from credo.inference.objective.gradients import flat_gradient, gradients


def loss():
    scale = pyro.param("scale", torch.tensor([0.5, 2.0]), constraint=constraints.positive)
    return (scale**2).sum() + 3 * pyro.param("loc", torch.tensor(1.0))


def test_gradients_are_in_unconstrained_space_and_zero_where_a_parameter_is_not_used():
    pyro.param("unused", torch.ones(3))
    loss()
    found = gradients(loss)
    assert found["unused"].tolist() == [0.0, 0.0, 0.0] and found["loc"].item() == 3.0
    u = torch.tensor([0.5, 2.0]).log().requires_grad_()
    (wanted,) = torch.autograd.grad((u.exp() ** 2).sum(), u)
    assert torch.allclose(found["scale"], wanted)
    assert torch.equal(flat_gradient(loss), torch.cat([g.flatten() for g in found.values()]))
