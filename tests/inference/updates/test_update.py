"""One update, compared with a step of gradient descent by hand."""

import pyro
import pytest
import torch

from credo.inference.updates.update import has_one_rate, limit_rates, move, update, without_gradient


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


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_takes_short_steps_only_where_the_optimum_is_far_narrower_than_they_are(kind):
    a, b, c = (pyro.param(name, torch.zeros(2)) for name in "abc")
    adam, lr = kind([a, b], lr=0.02), {}
    adam.add_param_group({"params": [c]})
    limit_rates(adam, torch.tensor([1.0, 1e-5, 1e6, 0.1, 0.004, 0.004]), 1.0)  # of a, b and c
    for group in adam.param_groups:
        lr.update({id(p): group["lr"] for p in group["params"]})
    assert lr == {id(a): pytest.approx(0.2 * 1e-5), id(b): 0.02, id(c): 0.02} and not has_one_rate(adam)
    loss = (a + b + c).sum()
    update(adam, lambda: (loss.item(), loss))
    assert a.abs().max() < 3e-6 and b.abs().min().item() == pytest.approx(0.02, rel=0.01)
    limit_rates(adam, torch.ones(6), 0.3)  # in the second stage, from a point where no optimum is narrow
    assert has_one_rate(adam) and adam.param_groups[0]["lr"] == pytest.approx(0.3 * 0.02)
    assert len(adam.state) == 3  # what it knows of the gradients is kept


def test_an_optimiser_whose_steps_have_the_units_of_gradients_keeps_its_rate(optimiser):
    limit_rates(optimiser, torch.tensor([1e-9]), 1.0)
    assert optimiser.param_groups[0]["lr"] == 0.1
