"""The p-value is the share of all rank vectors that deviate as much: counted one by one where there are few."""

import itertools

import pytest
import torch

from credo.inference.distributions.uniformity import bands, p_value


def every(S, most):
    return torch.tensor(list(itertools.product(range(most + 1), repeat=S)))


def gammas(ranks, most):
    """The least tail of each rank vector, from binomial probabilities by enumeration."""
    S = ranks.shape[1]
    counts = torch.stack([(ranks < k).sum(1) for k in range(1, most + 1)], 1)
    tails = []
    for k in range(1, most + 1):
        law = torch.distributions.Binomial(S, torch.tensor(k / (most + 1), dtype=torch.float64))
        mass = law.log_prob(torch.arange(S + 1.0, dtype=torch.float64)).exp()
        tails.append(2 * torch.minimum(mass.cumsum(0), mass.flip(0).cumsum(0).flip(0)))
    return torch.stack([tails[k][counts[:, k]] for k in range(most)], 1).amin(1)


@pytest.mark.parametrize(("S", "most"), [(4, 3), (6, 2), (5, 4), (9, 1)])
def test_the_p_value_is_the_share_of_all_rank_vectors_that_deviate_as_much(S, most):
    ranks = every(S, most)
    found = gammas(ranks, most)
    for i in range(0, len(ranks), max(1, len(ranks) // 40)):
        share = (found <= found[i] * (1 + 1e-9)).double().mean().item()
        assert p_value(ranks[i], most) == pytest.approx(share, abs=1e-9)


def test_bands_hold_the_share_that_they_say():
    ranks = every(6, 3)
    counts = torch.stack([(ranks < k).sum(1) for k in range(1, 4)], 1)
    for probability in (0.5, 0.8, 0.95):
        low, high = bands(6, 3, probability)
        inside = ((counts >= low) & (counts <= high)).all(1).double().mean().item()
        assert inside >= probability
    assert inside < 1  # so that the bands can be left


def test_ranks_leave_the_bands_where_their_p_value_is_small():
    torch.manual_seed(0)
    S, most = 60, 9
    low, high = bands(S, most, 0.9)
    for _ in range(50):
        ranks = torch.randint(0, most + 1, (S,))
        counts = torch.stack([(ranks < k).sum() for k in range(1, most + 1)])
        inside = bool(((counts >= low) & (counts <= high)).all())
        assert inside == (p_value(ranks, most) > 0.1) or abs(p_value(ranks, most) - 0.1) < 0.02


def test_ranks_that_are_not_uniform_have_small_p_values():
    torch.manual_seed(0)
    uniform = torch.randint(0, 100, (500,))
    assert p_value(uniform, 99) > 0.01
    assert p_value(uniform * 8 // 10, 99) < 1e-6  # too low
    middle = (50 + 0.6 * (uniform - 50)).long()
    assert p_value(middle, 99) < 1e-6  # too near to the middle
    assert p_value(torch.zeros(500, dtype=torch.int64), 99) < 1e-12
