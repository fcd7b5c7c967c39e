"""Whether ranks are uniform: the exact p-value of the largest deviation of their empirical distribution.

    r_s uniform on 0, ..., L:   N_k = #{s: r_s < k} ~ Binomial(S, k / (L + 1)),   k = 1, ..., L
    gamma = min_k 2 min(P(N_k <= n_k), P(N_k >= n_k)),   p = P(gamma of uniform ranks <= gamma)

N_1, N_2, ... is a Markov chain: N_{k+1} - N_k ~ Binomial(S - N_k, 1 / (L + 1 - k)), so that the probability that all
of them stay inside of their bands is a sum and needs no simulation. Bands for a picture are those of a given p.
Source: Säilynoja, Bürkner and Vehtari 2022, algorithm 2 and appendix A.
"""

import math
from typing import NamedTuple

import torch

TINY = 1e-12  # of a bound of the p-value, below which the bound is returned
HALVINGS = 40  # of the interval of log gamma that holds a wanted p-value


class Bands(NamedTuple):
    """Where the counts N_k of uniform ranks are, all together, with a given probability."""

    low: torch.Tensor  # (L,), the least count that is inside
    high: torch.Tensor  # (L,), the largest one


def p_value(ranks: torch.Tensor, most: int) -> float:
    """The probability that uniform ranks deviate as much as these. ranks (S,): whole numbers from 0 to `most` = L."""
    S = len(ranks)
    counts = torch.bincount(ranks.long(), minlength=most + 1).cumsum(0)[:-1]  # N_1, ..., N_L
    tails = _tails(S, most)
    gamma = tails.gather(1, counts[:, None]).min().item()
    if most * gamma < TINY:
        return most * gamma
    return min(1.0, _leaves(gamma, tails, S))


def bands(S: int, most: int, probability: float = 0.95) -> Bands:
    """The bands that hold all counts N_k of S uniform ranks on 0, ..., `most` with this probability, or just above."""
    tails = _tails(S, most)
    low, high = math.log((1 - probability) / most / 2), 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _leaves(math.exp(middle), tails, S) <= 1 - probability else (low, middle)
    inside = tails > math.exp(low)
    n = torch.arange(S + 1)
    return Bands(torch.where(inside, n, S).min(1).values, torch.where(inside, n, 0).max(1).values)


def _tails(S: int, most: int) -> torch.Tensor:
    """2 min(P(N_k <= n), P(N_k >= n)), shape (L, S + 1) for k = 1, ..., L and n = 0, ..., S."""
    share = torch.arange(1, most + 1, dtype=torch.float64)[:, None] / (most + 1)
    mass = _binomial(torch.tensor(S), torch.arange(S + 1), share)
    below, above = mass.cumsum(1), mass.flip(1).cumsum(1).flip(1)
    return 2 * torch.minimum(below, above)


def _leaves(gamma: float, tails: torch.Tensor, S: int) -> float:
    """The probability that a count of uniform ranks has a tail of at most gamma."""
    most, inside = len(tails), tails > gamma * (1 + 1e-9)
    n, alive, left = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64), 0.0
    for k in range(most):
        after = inside[k].nonzero()[:, 0]
        moves = _binomial(
            S - n[:, None], after[None] - n[:, None], torch.tensor(1 / (most + 1 - k), dtype=torch.float64)
        )
        before, alive = alive, alive @ moves
        left += max(0.0, (before.sum() - alive.sum()).item())
        n = after
    return left


def _binomial(n: torch.Tensor, k: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """P(k of n) at this share in double precision, 0 where k < 0 or k > n."""
    inside = (k >= 0) & (k <= n)
    k = torch.where(inside, k, 0).double()
    n = n.double()
    chosen = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return torch.where(inside, (chosen + torch.xlogy(k, share) + torch.xlogy(n - k, 1 - share)).exp(), 0.0)
