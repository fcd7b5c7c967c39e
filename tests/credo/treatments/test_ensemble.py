"""Networks trained at once against the same networks trained one by one."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from credo.treatments.ensemble import can_be_batched, ensemble, ensemble_of_equal_cost, members
from credo.treatments.points import points
from credo.treatments.treatment import Budget

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(40, 6, dtype=torch.float64, generator=GENERATOR)
LABELS = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
NUMBERS = X[:, 0] * 3 + 20
BUDGET = Budget(25, 16, 1e-2, seed=3)


def net(outputs: int, *layers: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), *layers, nn.ReLU(), nn.Linear(8, outputs)).double()


@pytest.mark.parametrize(("outputs", "y"), [(3, LABELS), (1, NUMBERS), (2, NUMBERS)])
def test_an_ensemble_of_one_is_the_plain_network(outputs, y):
    one = ensemble(net(outputs), X, y, BUDGET, networks=1).predict(X, 1)
    assert torch.allclose(one, points(net(outputs), X, y, BUDGET).predict(X, 1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("outputs", "y"), [(3, LABELS), (1, NUMBERS)])
def test_networks_at_once_are_networks_one_by_one(outputs, y):
    """Network m is the plain network from its own start with seed + m."""
    together = ensemble(net(outputs), X, y, BUDGET, networks=3).predict(X, 1)
    alone = [
        points(start, X, y, BUDGET._replace(seed=BUDGET.seed + m)).predict(X, 1)[0]
        for m, start in enumerate(members(net(outputs), 3, BUDGET.seed))
    ]
    assert torch.allclose(together, torch.stack(alone), rtol=1e-9, atol=1e-10)


def test_members_start_at_weights_of_their_own_and_frozen_ones_stay():
    start = net(3)
    start[2].weight.requires_grad_(False)
    first, second, third = members(start, 3, 0)
    assert torch.equal(first[0].weight, start[0].weight)
    assert not torch.equal(second[0].weight, third[0].weight) and not torch.equal(second[0].weight, first[0].weight)
    assert torch.equal(third[2].weight, start[2].weight)
    again = members(start, 3, 0)[2]
    assert torch.equal(third[0].weight, again[0].weight)


@pytest.mark.parametrize(
    ("layer", "batched"), [(nn.Tanh(), True), (nn.Dropout(0.5), False), (nn.BatchNorm1d(8), False)]
)
def test_layers_that_draw_or_count_are_trained_one_by_one(layer, batched):
    nets = members(net(3, layer), 2, 0)
    assert can_be_batched(nets, X[:4]) == batched
    trained = ensemble(net(3, layer), X, LABELS, BUDGET._replace(steps=5), networks=2)
    assert ("at once" in trained.words) == batched
    assert torch.equal(trained.predict(X, 1), trained.predict(X, 1))


def test_images_are_batched():
    convolution = nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(6, 3)).double()
    assert can_be_batched(members(convolution, 3, 0), X[:4])


def test_an_ensemble_of_equal_cost_shares_the_steps():
    assert "5 networks, 5 steps each" in ensemble_of_equal_cost(net(3), X, LABELS, BUDGET).words


def test_weights_that_no_reset_moves_are_named():
    net = nn.Sequential(weight_norm(nn.Linear(2, 3)), nn.Linear(3, 2))
    words = ensemble(net, torch.randn(6, 2), torch.tensor([0, 1] * 3), Budget(1, 6, 1e-3)).words
    assert "start at the same 0.parametrizations.weight.original0, 0.parametrizations.weight.original1" in words
    assert (
        "same" not in ensemble(nn.Linear(2, 2), torch.randn(6, 2), torch.tensor([0, 1] * 3), Budget(1, 6, 1e-3)).words
    )


def test_a_network_whose_parameters_are_all_frozen_is_refused():
    with pytest.raises(ValueError, match=r"net: got Sequential without parameters to train"):
        ensemble(net(3).requires_grad_(False), X, LABELS, BUDGET)
