"""The objective that carries out a recipe.

    -ELBO = E_q[log q(z) - log p(z)] - E_q[log p(x | z)]        nats, for the whole data set; estimated with K particles

Pathwise sites (Kingma and Welling 2014; Rezende et al. 2014): the gradient of the integrand along z = z(noise, params).
The term of log q: "analytic KL", the divergence of a site from its prior in closed form where that is known; "sticking
the landing" (Roeder, Wu and Duvenaud 2017, eq. 7), the derivative of log q by its parameters at a held draw left out,
which leaves the mean alone, since E_q[d log q] = 0, and makes the gradient exact where q is the posterior; or plain
"log q".
A weight may act on each row with noise of its own ("local", "flipout"; see `local`), its KL known in closed form.
Finite sites are summed over (see `enumerate`) or flipped unit by unit (`one_flip`); the rest goes by the score function
(`score`). One run of the pair serves them all.
"""

import functools
from typing import NamedTuple

import torch

from ..estimators.enumerate import on_grid
from ..estimators.one_flip import flips
from ..estimators.score import Score, scores, surrogate, without_paths
from ..pair.costs import DATA, GUIDE, WEIGHT, Run, Terms
from ..pair.pair import Pair
from ..runtime.vectorise import repeat
from .recipe import Recipe

DRAWN = Recipe()  # draws everything and takes log q as it is


class Draw(NamedTuple):
    """What one draw of the guide is worth, scalars in nats; of several, each tensor has a leading dimension."""

    fit: torch.Tensor  # log p(x | z)
    divergence: torch.Tensor  # log q(z) - log p(z), or KL in their stead
    flipped: dict[str, torch.Tensor]  # of each site that is flipped: its gradient is that through the site
    fixed: dict[str, torch.Tensor]  # log q of sites without parameters
    scores: dict[str, Score]


def differentiable_loss(
    recipe: Recipe,
    pair: Pair,
    particles: int,
    vectorised: bool,
    kl_weight: float = 1.0,
    baselines: dict[str, torch.Tensor] | None = None,
) -> tuple[float, torch.Tensor]:
    """(the estimate of -ELBO in nats, a scalar whose gradient estimates that of -ELBO); see `objective`."""
    value, surrogate = objective(
        recipe, pair, particles, vectorised, None if kl_weight == 1.0 else kl_weight, baselines
    )
    return value.item(), surrogate


def objective(
    recipe: Recipe,
    pair: Pair,
    particles: int,
    vectorised: bool,
    kl_weight: float | torch.Tensor | None = None,
    baselines: dict[str, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(the estimate of -ELBO in nats, a scalar whose gradient estimates that of -ELBO), both tensors.

    kl_weight: the weight of log q(z) - log p(z) in the second, below 1 while a run warms up; None is 1. baselines: the
    baselines of a run with one particle, see `score`.
    """
    weight = 1.0 if kl_weight is None else kl_weight
    drawn: Draw = repeat(lambda: _draw(pair, vectorised, recipe, weight), particles, vectorised, recipe.antithetic)
    for name, value in drawn.fixed.items():  # looked at out here: inside vmap a tensor does not say
        if value.requires_grad:
            raise ValueError(
                f"site {name!r}: its distribution now depends on parameters, which it did not at the start"
            )
    loss = (drawn.divergence - drawn.fit).mean()
    now = loss.detach()
    if kl_weight is not None:
        loss = loss - (1 - kl_weight) * drawn.divergence.mean()
    for flipped in drawn.flipped.values():
        loss = loss + flipped.mean()
    return now, loss + surrogate(drawn.scores, baselines) if drawn.scores else loss


def log_weights(pair: Pair, n: int, vectorised: bool, recipe: Recipe = DRAWN) -> torch.Tensor:
    """log p(x, z) - log q(z) for n draws z ~ q, shape (n,), in nats and double precision. Their mean is the ELBO.

    With a recipe what it knows in closed form takes the place of draws: the same mean, less noise.
    """
    return repeat(lambda: log_weight(pair, recipe, vectorised), n, vectorised)


def log_weight(pair: Pair, recipe: Recipe = DRAWN, vectorised: bool = False) -> torch.Tensor:
    """log p(x, z) - log q(z) at one draw z ~ q, a scalar."""
    draw = _draw(pair, vectorised, recipe.valued())
    return draw.fit - draw.divergence


def _draw(pair: Pair, vectorised: bool, recipe: Recipe, kl_weight: float | torch.Tensor = 1.0) -> Draw:
    """One draw of the guide, finite sites summed over."""
    scored = pair._replace(guide=without_paths(pair.guide, frozenset(recipe.score)))

    def evaluate(held: dict[str, torch.Tensor], terms: Terms) -> Run:
        return on_grid(scored, recipe.values, terms, vectorised, held, recipe.unmoved)

    drawn = evaluate({}, recipe.terms)
    lead = int(bool(recipe.values))
    new = [key for key in drawn.costs if key[0] != WEIGHT and key not in recipe.seen]  # of a branch not met before
    reach = {name: [k for k in keys if k in drawn.costs] + new for name, keys in recipe.score.items()}
    if missing := sorted(name for name in recipe.score if (WEIGHT, name) not in drawn.costs):
        raise ValueError(
            f"site {missing[0]!r}: the guide draws it in some runs only, and the score function needs it in all; "
            f"draw it in every run and let the model's branch leave it unread"
        )
    found = scores(drawn, reach, recipe.coupled, kl_weight, lead)
    flipped: dict[str, torch.Tensor] = {}
    if recipe.flips:
        again = functools.partial(evaluate, terms=Terms(kl=recipe.terms.kl, local=recipe.terms.local))
        flipped = flips(again, drawn, recipe.flips, recipe.redrawn, vectorised, kl_weight, lead)
    fixed: dict[str, torch.Tensor] = {}
    fit: list[torch.Tensor] = []
    divergence: list[torch.Tensor] = []
    for (side, name), cost in drawn.costs.items():
        if side == WEIGHT:
            if name in recipe.fixed:
                fixed[name] = cost.sum()
            continue
        total = cost.sum(dtype=torch.float64)
        if side == DATA:
            fit.append(total)
        else:
            divergence.append(total if side == GUIDE else -total)
    return Draw(_added(fit), _added(divergence), flipped, fixed, found)


def _added(costs: list[torch.Tensor]) -> torch.Tensor:
    return functools.reduce(torch.add, costs) if costs else torch.zeros((), dtype=torch.float64)
