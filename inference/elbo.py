"""The objective that carries out a plan.

    -ELBO = E_q[log q(z) - log p(z)] - E_q[log p(x | z)]        nats, for the whole data set; estimated with K particles

Pathwise sites (Kingma and Welling 2014; Rezende et al. 2014): the gradient of the integrand along z = z(noise, params).
The term of log q: "KL", the divergence of a site from its prior in closed form where that is known; "STL" (sticking the
landing, Roeder, Wu and Duvenaud 2017, eq. 7), the derivative of log q at a held draw left out, which leaves the mean
alone, since E_q[d log q] = 0, and makes the gradient exact where q is the posterior; or plain "log q".
Finite sites are summed over (see `enumeration`); the rest goes by the score function (see `score`).
"""

from typing import NamedTuple

import torch

from .costs import DATA, GUIDE, PRIOR, WEIGHT, Dims, Pair, log_q, run
from .draws import each, repeat
from .enumeration import on_grid
from .plan import EMPTY, Plan
from .score import Score, scores, surrogate, without_paths


class Draw(NamedTuple):
    """What one draw of the guide is worth; of several, each tensor has a leading dimension."""

    z: dict[str, torch.Tensor]
    fit: torch.Tensor  # log p(x | z)
    divergence: torch.Tensor  # log q(z) - log p(z), or KL in their stead
    fixed: dict[str, torch.Tensor]  # log q of sites without parameters
    scores: dict[str, Score]


def differentiable_loss(
    plan: Plan,
    pair: Pair,
    particles: int,
    vectorised: bool,
    warmth: float = 1.0,
    averages: dict[str, torch.Tensor] | None = None,
) -> tuple[float, torch.Tensor]:
    """(the estimate of -ELBO in nats, a scalar whose gradient estimates that of -ELBO).

    warmth: the weight of log q(z) - log p(z) in the second; below 1 while a run warms up. averages: the baselines of a
    run with one particle, see `score`.
    """
    drawn = _draws(pair, particles, vectorised, plan, warmth)
    loss = warmth * drawn.divergence.mean() - drawn.fit.mean()
    value = loss.item() + (1 - warmth) * drawn.divergence.mean().item()
    return value, loss + surrogate(drawn.scores, averages)


def log_weights(pair: Pair, n: int, vectorised: bool, plan: Plan = EMPTY) -> torch.Tensor:
    """log p(x, z) - log q(z) for n draws z ~ q, shape (n,), in nats and double precision. Their mean is the ELBO.

    With a plan what it knows in closed form takes the place of draws: the same mean, less noise.
    """
    drawn = _draws(pair, n, vectorised, plan)
    return drawn.fit - drawn.divergence


def _draws(pair: Pair, n: int, vectorised: bool, plan: Plan, warmth: float = 1.0) -> Draw:

    def one() -> Draw:
        draw = _draw(pair, vectorised, plan, warmth)
        return draw if plan.term == "STL" else draw._replace(z={})  # elsewhere the sites may differ from draw to draw

    drawn = repeat(one, n, vectorised)
    for name, value in drawn.fixed.items():  # looked at out here: inside vmap a tensor does not say
        if value.requires_grad:
            raise ValueError(
                f"site {name!r}: its distribution now depends on parameters, which it did not at the start"
            )
    if plan.term == "STL" and drawn.z:  # take out the derivative of log q at a held draw: its mean is zero
        held = {name: value.detach() for name, value in drawn.z.items()}
        score = each(lambda z: log_q(pair, z), held, vectorised)
        drawn = drawn._replace(divergence=drawn.divergence - score + score.detach())
    return drawn


def _draw(pair: Pair, vectorised: bool, plan: Plan, warmth: float = 1.0) -> Draw:
    """One draw of the guide, finite sites summed over."""
    kl = plan.kl if plan.term == "KL" else frozenset()
    fixed = frozenset(e.site for e in plan.entries if e.estimator == "sampled")
    scored: dict[str, Score] = {}
    if plan.values:
        z, costs = on_grid(pair, plan.values, kl, vectorised, fixed)
    else:
        dims: Dims = {}
        by_score = frozenset(plan.coupled)
        scored_pair = pair._replace(guide=without_paths(pair.guide, by_score))
        z, costs, _ = run(scored_pair, kl=kl, weights=fixed | by_score, dims=dims)
        scored = scores(costs, dims, plan.coupled, warmth)
        for name in by_score - kl:  # the mean of grad log q is zero
            costs[GUIDE, name] = costs[GUIDE, name].detach()
    learnt: dict[str, torch.Tensor] = {}
    sums = dict.fromkeys((DATA, PRIOR, GUIDE), torch.zeros((), dtype=torch.float64))
    for (side, name), cost in costs.items():
        if side != WEIGHT:
            sums[side] = sums[side] + cost.sum(dtype=torch.float64)
        elif name in fixed:
            learnt[name] = cost.sum()
    return Draw(z, sums[DATA], sums[GUIDE] - sums[PRIOR], learnt, scored)


def log_weight(pair: Pair, plan: Plan = EMPTY) -> torch.Tensor:
    """log p(x, z) - log q(z) at one draw z ~ q, a scalar."""
    draw = _draw(pair, False, plan)
    return draw.fit - draw.divergence


def stl_is_legal(pair: Pair) -> bool:
    """Whether log q(z) is a function of z and the parameters alone: false for a guide with dropout of its own."""
    with torch.no_grad():
        z, _, _ = run(pair)
        return torch.equal(log_q(pair, z), log_q(pair, z))
