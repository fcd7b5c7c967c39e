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
from typing import Any, NamedTuple

import torch

from ..estimators.enumerate import on_grid
from ..estimators.recipe import Draw, Recipe
from ..pair.costs import DATA, GUIDE, WEIGHT, Run, Terms
from ..pair.pair import Pair
from ..runtime.vectorise import repeat

DRAWN = Recipe()  # draws every site and takes log q as it is


class Value(NamedTuple):
    """What one draw of the guide is worth, scalars in nats; of several, each tensor has a leading dimension."""

    fit: torch.Tensor  # log p(x | z)
    divergence: torch.Tensor  # log q(z) - log p(z), or KL in their stead
    parts: tuple[Any, ...]  # of each part of the recipe, what its `of_draw` returned


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
    drawn: Value = repeat(lambda: _value(pair, vectorised, recipe, weight), particles, vectorised, recipe.antithetic)
    loss = (drawn.divergence - drawn.fit).mean()
    now = loss.detach()
    if kl_weight is not None:
        loss = loss - (1 - kl_weight) * drawn.divergence.mean()
    for part, values in zip(recipe.parts, drawn.parts, strict=True):
        loss = part.add(loss, values, baselines)
    return now, loss


def log_weights(pair: Pair, n: int, vectorised: bool, recipe: Recipe = DRAWN) -> torch.Tensor:
    """log p(x, z) - log q(z) for n draws z ~ q, shape (n,), in nats and double precision. Their mean is the ELBO.

    With a recipe what it knows in closed form takes the place of draws: the same mean, less noise.
    """
    return repeat(lambda: log_weight(pair, recipe, vectorised), n, vectorised)


def log_weight(pair: Pair, recipe: Recipe = DRAWN, vectorised: bool = False) -> torch.Tensor:
    """log p(x, z) - log q(z) at one draw z ~ q, a scalar."""
    value = _value(pair, vectorised, recipe.valued())
    return value.fit - value.divergence


def _value(pair: Pair, vectorised: bool, recipe: Recipe, kl_weight: float | torch.Tensor = 1.0) -> Value:
    """One draw of the guide, enumerated sites summed over."""
    for part in recipe.parts:
        pair = pair._replace(guide=part.guide(pair.guide))

    def evaluate(held: dict[str, torch.Tensor], terms: Terms) -> Run:
        return on_grid(pair, recipe.values, terms, vectorised, held, recipe.unmoved)

    drawn = evaluate({}, recipe.terms)
    new = [key for key in drawn.costs if key[0] != WEIGHT and key not in recipe.seen]  # of a branch not met before
    again = functools.partial(evaluate, terms=Terms(kl=recipe.terms.kl, local=recipe.terms.local))
    draw = Draw(drawn, again, new, kl_weight, int(bool(recipe.values)), vectorised)
    parts = tuple(part.of_draw(draw) for part in recipe.parts)
    totals = {key: cost.sum(dtype=torch.float64) for key, cost in drawn.costs.items() if key[0] != WEIGHT}
    fit = [total for (side, _), total in totals.items() if side == DATA]
    divergence = [total if side == GUIDE else -total for (side, _), total in totals.items() if side != DATA]
    return Value(_added(fit), _added(divergence), parts)


def _added(costs: list[torch.Tensor]) -> torch.Tensor:
    return functools.reduce(torch.add, costs) if costs else torch.zeros((), dtype=torch.float64)
