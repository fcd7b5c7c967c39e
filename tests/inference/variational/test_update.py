"""One update, compared with a step of gradient descent by hand."""

import pyro
import pytest
import torch

from credo.inference.variational.update import move, update, without_gradient


@pytest.fixture
def optimiser():
    """Gradient descent of the parameter "a", which is 2."""
    return torch.optim.SGD([pyro.param("a", torch.tensor(2.0))], lr=0.1)


def square(value=None):
    """a^2, whose gradient is 2 a."""
    loss = pyro.param("a") ** 2
    return loss.item() if value is None else value, loss


def test_a_step_goes_down_the_gradient_of_the_second_and_returns_the_first(optimiser):
    assert update(optimiser, lambda: square(7.0)) == 7.0
    assert pyro.param("a").item() == pytest.approx(2 - 0.1 * 4)
    update(optimiser, square)
    assert pyro.param("a").item() == pytest.approx(1.6 - 0.1 * 3.2)  # no gradient is left from the step before


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_loss_that_is_not_finite_updates_nothing(optimiser, value):
    found = update(optimiser, lambda: square(value))
    assert found == value or (value != value and found != found)
    assert pyro.param("a").item() == 2.0 and pyro.param("a").grad is None and not optimiser.state


def test_a_parameter_made_by_the_loss_joins_the_optimiser_once(optimiser):
    def loss():
        value = (pyro.param("a") * pyro.param("b", torch.tensor(3.0))).sum()
        return value.item(), value

    update(optimiser, loss)
    assert (pyro.param("a").item(), pyro.param("b").item()) == pytest.approx((2 - 0.3, 3 - 0.2))
    update(optimiser, loss)
    assert [len(group["params"]) for group in optimiser.param_groups] == [1, 1]
    assert optimiser.param_groups[1]["lr"] == 0.1


def test_a_parameter_without_gradient_is_named(optimiser):
    pyro.param("unused", torch.tensor(1.0))
    update(optimiser, square)
    (warning,) = without_gradient()
    assert "'unused' gets no gradient" in warning


@pytest.mark.parametrize("fused", [False, True])
def test_a_move_leaves_nothing_of_the_gradients_before(fused):
    """The first step of Adam has the length of the learning rate, however large the gradients before the move were."""
    a = pyro.param("a", torch.tensor(1e6))
    adam = torch.optim.Adam([a], lr=0.1, fused=fused)
    for _ in range(3):
        update(adam, square)
    move(adam, torch.tensor([2.0], dtype=torch.float64))
    assert a.item() == 2.0
    update(adam, square)
    assert a.item() == pytest.approx(1.9)
