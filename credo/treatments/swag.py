"""SWAG: a normal of the weights, with the mean and covariance of the iterates of a run at a constant rate.

    q(w) = N(w̄, Σ/2 + D Dᵀ / (2 (K - 1)))         (Maddox et al. 2019, eq. 1, arXiv:1902.02476)

w̄ and the diagonal Σ are the mean and the variances of all iterates collected, the columns of D the last K ≤ 20 of them
less w̄. Here they are iterates of Adam, not of SGD, so that one rate suits every network; and D is about the last mean,
not the running one, so D Dᵀ / (K - 1) is a covariance about w̄ itself. Iterates are taken in the last quarter of a run.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.swa_utils import update_bn

from credo.treatments.points import predicted, size, train
from credo.treatments.treatment import Budget, Trained

RANK = 20  # columns of D, at most
ITERATES = 100  # that are collected, at most
QUARTER = 4
BATCH_NORM_ROWS = 2048  # of the training data, from which the statistics of a drawn network are


class Iterates(NamedTuple):
    """Moments of vectors: how many, mean and summed squares about it, shape (P,), and the last of them, (K, P)."""

    taken: int
    mean: torch.Tensor
    squares: torch.Tensor
    last: torch.Tensor


def swag(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, *, rank: int = RANK) -> Trained:
    """Networks drawn from the normal of the last iterates. x: shape (N, ...). y: shape (N,). rank: K, columns of D.

    Batch normalisation of each network drawn is computed anew, as in the paper (section 3.4), from 2,048 rows at most,
    in random batches; in evaluation mode it keeps its statistics.
    """
    first = budget.steps - budget.steps // QUARTER
    every = max(1, math.ceil((budget.steps - first) / ITERATES))
    found: list[Iterates] = []

    def collect(step: int, net: nn.Module, beside: dict[str, torch.Tensor]) -> None:
        if step == budget.steps or (step > first and (budget.steps - step) % every == 0):
            vector = parameters_to_vector(_free(net, beside)).detach()
            found[:] = [added(found[0] if found else none(vector), vector, rank)]

    likely, trained, beside = train(net, x, y, budget, after=collect)
    (iterates,) = found
    free = [name for name, w in net.named_parameters() if w.requires_grad]
    normalises = any(isinstance(layer, _BatchNorm) and layer.training for layer in net.modules())
    normalised = _batches(likely.inputs(x), budget) if normalises else []

    def predict(x: torch.Tensor, draws: int) -> torch.Tensor:
        generator = torch.Generator(iterates.mean.device).manual_seed(budget.seed)  # the same networks for all rows
        parameters = dict(trained.named_parameters())
        weights = [parameters[name] for name in free] + list(beside.values())
        found = []
        for _ in range(draws):
            vector_to_parameters(draw(iterates, generator), weights)
            if normalises:
                update_bn(normalised, trained)
            found.append(predicted(likely, trained.eval(), beside, x))
        return torch.stack(found)

    numbers = size(trained, beside) + (1 + len(iterates.last)) * iterates.mean.numel()  # variances and D beside w̄
    words = f"the normal of {iterates.taken} iterates of the last {budget.steps - first:,} steps of Adam, "
    return Trained(predict, numbers, words + f"a diagonal plus rank {len(iterates.last)}")


def none(like: torch.Tensor) -> Iterates:
    """No vectors of this shape yet."""
    return Iterates(0, torch.zeros_like(like), torch.zeros_like(like), like.new_empty(0, *like.shape))


def added(iterates: Iterates, vector: torch.Tensor, rank: int = RANK) -> Iterates:
    """With one more vector, shape (P,), by Welford's recursion (1962), which loses no digits to the mean."""
    away = vector - iterates.mean
    mean = iterates.mean + away / (iterates.taken + 1)
    last = torch.cat([iterates.last, vector[None]])[-rank:]
    return Iterates(iterates.taken + 1, mean, iterates.squares + away * (vector - mean), last)


def covariance(iterates: Iterates) -> torch.Tensor:
    """Σ/2 + D Dᵀ / (2 (K - 1)), shape (P, P): of small networks."""
    half = torch.diag(iterates.squares / iterates.taken) / 2
    d = (iterates.last - iterates.mean).T
    return half if d.shape[1] < 2 else half + d @ d.T / (2 * (d.shape[1] - 1))


def draw(iterates: Iterates, generator: torch.Generator | None = None) -> torch.Tensor:
    """w̄ + sqrt(Σ/2) z1 + D z2 / sqrt(2 (K - 1)), shape (P,) (eq. 1); without D for a single iterate."""
    mean, k = iterates.mean, len(iterates.last)
    options: dict[str, Any] = {"generator": generator, "device": mean.device, "dtype": mean.dtype}
    vector = mean + (iterates.squares / iterates.taken / 2).sqrt() * torch.randn(mean.shape, **options)
    if k > 1:
        vector = vector + torch.randn(k, **options) @ (iterates.last - mean) / (2 * (k - 1)) ** 0.5
    return vector


def _batches(x: torch.Tensor, budget: Budget) -> list[torch.Tensor]:
    """Rows at random in batches of the training's size; in the order of the data a batch could have one class alone."""
    size = min(budget.batch_size, len(x))
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(budget.seed))[:BATCH_NORM_ROWS]
    return [x[part.to(x.device)] for part in rows[: max(1, len(rows) // size) * size].split(size)]


def _free(net: nn.Module, beside: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [w for w in net.parameters() if w.requires_grad] + list(beside.values())
