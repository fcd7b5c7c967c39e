"""A warm start, against the plain network and the treatment by themselves."""

import pytest
import torch
from torch import nn

from credo.treatments.points import points
from credo.treatments.treatment import Budget, Trained
from credo.treatments.warm import warm

X, Y = torch.randn(40, 3), torch.randint(0, 2, (40,))
BUDGET = Budget(steps=20, batch_size=8, lr=1e-2, seed=3)


def spy(seen):
    def treatment(net, x, y, budget):
        seen.append((net, budget))
        return Trained(lambda x, draws: x, 1, "seen")

    return treatment


def test_the_treatment_starts_at_the_weights_of_the_plain_network():
    net, seen = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), []
    net[0].bias.requires_grad_(False)
    before = {name: w.detach().clone() for name, w in net.named_parameters()}
    trained = warm(spy(seen), 0.3)(net, X, Y, BUDGET)
    ((start, budget),) = seen
    assert budget == BUDGET._replace(steps=14) and trained.words == (
        "6 steps of the plain network first, then 14 of: seen"
    )
    plain = points(net, X, Y, BUDGET._replace(steps=6))
    with torch.no_grad():
        torch.testing.assert_close(start(X).softmax(-1), plain.predict(X, 1)[0])
    assert {n: w.requires_grad for n, w in start.named_parameters()} == {
        n: w.requires_grad for n, w in net.named_parameters()
    }
    assert start.training == net.training
    assert all(torch.equal(w, before[name]) for name, w in net.named_parameters())


def test_too_few_steps_to_share_are_the_treatments_and_a_wrong_share_is_refused():
    seen = []
    warm(spy(seen))(nn.Linear(3, 2), X, Y, BUDGET._replace(steps=1))
    assert seen[0][1].steps == 1
    for share in (0, 1, 1.5, True, "half"):
        with pytest.raises(ValueError, match=r"share: got .*between 0 and 1"):
            warm(points, share)
