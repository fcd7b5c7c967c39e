"""Draws of a posterior by adaptive importance sampling: a mixture is fitted to its own weighted draws, again and again.

    u_s ~ r_t,   w_s = p(data, u_s) / r_t(u_s),   r_t+1 fitted to (u_s, w_s);   the last round alone is kept

So the weights that are returned are those of draws of one known distribution: their mean estimates p(data) without
bias, and their tail says whether it can be trusted. Source: Cappé, Douc, Guillin, Marin and Robert 2008; Hesterberg
1995 for the defensive part, which is never fitted away.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ..gaussian.full_rank_normal import FullRankNormal, generator
from ..gaussian.psis import Importance, importance
from .budget import Deadline, OutOfTime, clock
from .mixture import NORMAL, NU, Mixture, fitted, mixture

Values = Callable[[torch.Tensor], torch.Tensor]  # us (n, D) -> log p(data, u) in nats (n,)
WIDE = 1.5  # of the sds of the defensive part
DEFENSIVE = 0.2  # its share
ROUNDS = 6
ENOUGH = 0.3  # effective share of the draws at which nothing more is fitted
COMPONENTS = 8
WALKERS, MOVES = 2000, 10  # draws that are moved, and how often each
MOST = 40  # latents up to which mixtures are fitted


class Drawn(NamedTuple):
    """Weighted draws of a posterior."""

    us: torch.Tensor  # (S, D)
    log_joints: torch.Tensor  # log p(data, u) (S,), nats
    importance: Importance
    proposal: Mixture
    rounds: int = 0  # in which a mixture was fitted to weighted draws
    cut: bool = False  # whether there was no time for a further round


def adapted(
    values: Values,
    normals: list[FullRankNormal],
    *,
    draws: int,
    rounds: int = ROUNDS,
    seed: int = 0,
    by: Deadline | None = None,
) -> Drawn:
    """Weighted draws of the posterior, by mixtures that start from these normals, the best one first.

    by: a deadline, before which a round must be expected to end, or else it is not begun. `values` may raise OutOfTime
    then; in the first round it is raised here.
    """
    noise = generator(seed, normals[0].mean)
    begun = 0.0 if by is None else clock(by.device)
    found = _drawn(values, around(normals), draws, noise)
    each = 0.0 if by is None else (clock(by.device) - begun) * (1 + MOVES * _walkers(draws) / draws)  # seconds a round
    for t in range(rounds):
        if (_good(found, draws) and t not in (1, 2)) or found.us.shape[1] > MOST or found.importance.ess < 2:
            break
        try:
            if by is not None:
                by.check(each)
            us, weights = _moved(values, found, noise)
            better = _with_defence(fitted(us, weights, COMPONENTS, noise))
            found = _drawn(values, better, draws, noise)._replace(rounds=t + 1)
        except OutOfTime:
            return found._replace(cut=True)
    return found


def around(normals: list[FullRankNormal]) -> Mixture:
    """The mixture to start from: the first of these normals, a wider one, and the others, a little wider."""
    first, others = normals[0], normals[1:]
    return mixture(
        [first, first, *others],
        [1 - DEFENSIVE, DEFENSIVE, *[0.5] * len(others)],
        [NORMAL, NU, *[NU] * len(others)],
        [1, WIDE, *[1.2] * len(others)],
    )


def _walkers(draws: int) -> int:
    return min(WALKERS, draws // 2 * 2)


def _moved(values: Values, found: Drawn, noise: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(us (n, D), weights (n,)): resampled draws, moved by steps that leave the posterior as it is, and the draws.

    The stretch move of Goodman and Weare 2010 takes one half of the draws along lines through draws of the other half:
    no unit and no correlation matters to it, and it follows ridges to where no draw has been.
    """
    weights = found.importance.log_weights.exp()
    n, D = _walkers(len(weights)), found.us.shape[1]
    at = torch.multinomial(weights, n, replacement=True, generator=noise)
    us, logs = found.us[at].clone(), found.log_joints[at].clone()
    halves = (slice(0, n // 2), slice(n // 2, n))
    like: Any = {"dtype": us.dtype, "device": us.device, "generator": noise}
    for step in range(2 * MOVES):
        one, other = halves[step % 2], halves[1 - step % 2]
        z = (1 + torch.rand(n // 2, **like)).square() / 2  # density 1 / sqrt(z) on 1/2 to 2
        partners = us[other][torch.randperm(n // 2, generator=noise, device=us.device)]
        new = partners + z[:, None] * (us[one] - partners)
        new_logs = values(new)
        accept = torch.rand(n // 2, **like).log() < (D - 1) * z.log() + new_logs - logs[one]
        us[one] = torch.where(accept[:, None], new, us[one])
        logs[one] = torch.where(accept, new_logs, logs[one])
    even = torch.full((n,), 0.5 / n, dtype=us.dtype, device=us.device)
    return torch.cat([found.us, us]), torch.cat([weights.to(us) / 2, even])


def _drawn(values: Values, proposal: Mixture, draws: int, noise: torch.Generator) -> Drawn:
    us = proposal.sample(draws, noise)
    log_joints = values(us)
    return Drawn(us, log_joints, importance(log_joints - proposal.log_prob(us)), proposal)


def _good(found: Drawn, draws: int) -> bool:
    return found.importance.k_hat < 0.5 and found.importance.ess > ENOUGH * draws


def _with_defence(found: Mixture) -> Mixture:
    """The mixture and, with a share of 0.2, its components twice as wide."""
    return Mixture(
        torch.cat([found.means, found.means]),
        torch.cat([found.factors, 2 * found.factors]),
        torch.cat([(1 - DEFENSIVE) * found.shares, DEFENSIVE * found.shares]),
        torch.cat([found.nus, found.nus]),
    )
