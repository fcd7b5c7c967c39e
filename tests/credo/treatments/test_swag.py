"""SWAG beside NumPy's moments of the iterates, and the iterates of a quadratic loss."""

import numpy as np
import pytest
import torch
from torch import nn

from credo.treatments import points as plain
from credo.treatments.swag import Iterates, added, covariance, draw, none, swag
from credo.treatments.treatment import Budget

VECTORS = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 100


def collected(vectors: torch.Tensor, rank: int) -> Iterates:
    iterates = none(vectors[0])
    for vector in vectors:
        iterates = added(iterates, vector, rank)
    return iterates


@pytest.mark.parametrize("rank", [5, 30, 50])
def test_the_moments_are_numpys(rank):
    iterates = collected(VECTORS, rank)
    assert np.allclose(iterates.mean, VECTORS.mean(0))
    assert np.allclose(iterates.squares / iterates.taken, np.var(VECTORS.numpy(), 0))
    away = (VECTORS[-rank:] - VECTORS.mean(0)).numpy()
    wanted = np.diag(np.var(VECTORS.numpy(), 0)) / 2 + away.T @ away / (2 * (len(away) - 1))
    assert np.allclose(covariance(iterates), wanted)
    if rank >= 30:  # all iterates: half of the second term is NumPy's covariance
        assert np.allclose(
            covariance(iterates).numpy() - np.diag(np.var(VECTORS.numpy(), 0)) / 2, np.cov(VECTORS.numpy().T) / 2
        )


def test_draws_have_this_mean_and_covariance():
    iterates, generator = collected(VECTORS, 20), torch.Generator().manual_seed(1)
    draws = torch.stack([draw(iterates, generator) for _ in range(4_000)])
    exact = covariance(iterates)
    assert torch.allclose(draws.mean(0), iterates.mean, atol=5 * (exact.diag().max() / 4_000).sqrt())
    assert torch.allclose(draws.T.cov(), exact, atol=5 * exact.max() * (2 / 4_000) ** 0.5)


def test_one_iterate_is_a_point():
    iterates = collected(VECTORS[:1], 20)
    assert torch.equal(draw(iterates), VECTORS[0]) and not covariance(iterates).any()


def test_on_a_quadratic_loss_the_normal_is_that_of_the_iterates():
    """A linear network with two outputs less squares: mean and spread of its predictions are those of the iterates."""
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y = x @ torch.tensor([2.0, -1.0], dtype=torch.float64) + 0.3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Linear(2, 1).double()
    budget, seen = Budget(200, 10, 1e-2), []
    plain.train(net, x, y, budget, after=lambda step, one, _: seen.append((step, one.weight.detach().clone())))
    late = torch.cat([weight for step, weight in seen if step > 150])
    trained = swag(net, x, y, budget, rank=100)
    predicted = trained.predict(x, 800)
    scale = y.std(correction=0) / x.std(0, correction=0)
    slope = torch.linalg.lstsq(x - x.mean(0), (predicted[..., 0] - predicted[..., 0].mean(1, keepdim=True)).T).solution
    exact = late * scale
    assert torch.allclose(slope.mean(1), exact.mean(0), atol=6 * exact.std(0).max().item() / 800**0.5)
    assert torch.allclose(slope.std(1), exact.std(0), rtol=0.12)
    assert f"{len(late)} iterates" in trained.words


def test_all_rows_see_the_same_networks_and_batch_normalisation_is_computed_anew():
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    trained = swag(net, x, (x[:, 0] > 0).long(), Budget(40, 16, 1e-2))
    whole = trained.predict(x, 3)
    pieces = torch.cat([trained.predict(x[:10], 3), trained.predict(x[10:], 3)], 1)
    assert torch.allclose(whole, pieces, atol=1e-6)
    assert whole.sum(-1).flatten().tolist() == pytest.approx([1] * 192, abs=1e-5)


@pytest.mark.parametrize("rows", [64, 65, 5_000])  # 65 leaves a batch of one row, which has no variance
def test_the_statistics_of_batch_normalisation_do_not_depend_on_the_order_of_the_rows(rows):
    """Rows sorted by a class far from the other: a batch in their order would hold one class, with a variance of 1."""
    y = (torch.arange(rows) >= rows // 2).long()
    x = torch.randn(rows, 1, generator=torch.Generator().manual_seed(0)) + 20 * y[:, None]
    seen = []
    net = nn.Sequential(nn.BatchNorm1d(1), Watch(seen), nn.Linear(1, 2))
    trained = swag(net, x, y, Budget(1, 16, 1e-9))
    seen.clear()
    trained.predict(x, 1)
    exact = (x - x.mean()) / x.std()
    assert torch.allclose(seen[-1], exact, atol=0.25)
    assert sum(map(len, seen[:-1])) <= 2048 and {len(part) for part in seen[:-1]} == {16}


class Watch(nn.Module):
    """Writes down what it is given."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, x):
        self.seen.append(x.detach())
        return x

    def __deepcopy__(self, memo):
        return Watch(self.seen)
