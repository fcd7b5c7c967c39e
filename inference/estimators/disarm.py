"""DisARM: Bernoulli units all tried a second time at once, at draws from the mirrored noise.

    b_j = [u_j < p_j],   b~_j = [1 - u_j < p_j],   u_j ~ Uniform(0, 1)
    d/dp_j E_q[cost] = E[(R(b) - R(b~)) / 2 (b_j - b~_j) / min(p_j, 1 - p_j)]

One run more for each site, however many units it has. With the noise summed out given (b, b~) its variance is at most
that of ARM (Yin and Zhou 2019). Source: Dong, Mnih and Tucker 2020 (arXiv:2006.10680, eq. 9; by the chain rule here,
in the probability p_j in place of its logit); the same is found by Yin, Ho, Zhou and Yan 2020 (U2G).
Given b the mirror is drawn anew: where b_j = 1, b~_j = 1 with probability max(0, 2 p_j - 1) / p_j; where b_j = 0,
b~_j = 0 with probability max(0, 1 - 2 p_j) / (1 - p_j). What the guide draws from a distribution that depends on the
site is drawn anew.
"""

from collections.abc import Mapping
from functools import partial

import torch

from ..distributions.unwrap import kind
from ..pair.costs import WEIGHT, Key
from ..runtime.sites import Site, plates
from ..runtime.vectorise import each
from .estimator import ANALYTIC_KL, LOG_Q, Choice, Estimator, Findings, never
from .recipe import Draw, Part, Recipe
from .score import depth, moved, trimmed

FEW = 16  # units that "one-flip" tries one by one, with less noise


def why_not(seen: Findings) -> dict[str, str | None]:
    """{site: None if its units may be tried at mirrored draws, else why not}."""
    return {name: _why_not(name, site, seen) for name, site in seen.sites.items()}


def _why_not(name: str, site: Site, seen: Findings) -> str | None:
    if name not in seen.finite or kind(site["fn"]) != "Bernoulli":
        return f"{kind(site['fn'])} has no units of value 0 or 1 whose probability is to be learnt"
    units = site["fn"].event_shape.numel()
    if units <= FEW:
        return f"each of its {units} units can be tried by itself"
    if not seen.vectorised:
        return "the pair cannot be run for many values at once"
    if coupled := seen.facts.coupled.get(name):
        return f"the draw of a row moves the costs of other rows of plate {', '.join(sorted(coupled))}"
    outside = [
        key[1] for key in seen.facts.reads.moved_by(name) if not plates(site) <= seen.plates.get(key, frozenset())
    ]
    return f"{outside[0]!r} outside its plate depends on it" if outside else None


def because(name: str, seen: Findings, options: Mapping[str, str | None]) -> str:
    return "all units of this Bernoulli are tried a second time, at mirrored noise: one run more, and no bias"


def enter(recipe: Recipe, chosen: Choice) -> Recipe:
    """Each site adds the gradient through its probabilities; its own log q has mean gradient zero."""
    if not chosen.sites:
        return recipe
    reads, names = chosen.facts.reads, frozenset(chosen.sites)
    reach = {name: reads.moved_by(name, chosen.kl) for name in chosen.sites}
    redrawn = {name: reads.descendants(name) for name in chosen.sites}
    terms = recipe.terms._replace(
        sticking=recipe.terms.sticking | (names - chosen.kl.keys()),
        unscaled=recipe.terms.unscaled | names,
        mirrored=recipe.terms.mirrored | names,
    )
    return recipe._replace(terms=terms, parts=(*recipe.parts, Part(partial(mirrored, reach, redrawn), _add)))


def mirrored(
    reach: Mapping[str, list[Key]], redrawn: Mapping[str, frozenset[str]], draw: Draw
) -> dict[str, torch.Tensor]:
    """{site: a scalar whose gradient is the one of -ELBO through its probabilities}.

    reach: {site: the costs that its draw moves}. redrawn: {site: the draws of the guide that depend on it}.
    """
    found, drawn, lead = {}, draw.run, draw.lead
    for name, keys in reach.items():
        if not keys:
            continue
        values, slopes = drawn.neighbours[name]
        if lead:
            values, slopes = values.movedim(1, 0), slopes.movedim(1, 0)
        held = {k: v.detach() for k, v in drawn.z.items() if k not in redrawn[name] and k != name}

        def cost(z: torch.Tensor, name: str = name, keys: list[Key] = keys, held: dict = held) -> torch.Tensor:
            return moved(draw.evaluate({**held, name: z}), keys, drawn.dims[WEIGHT, name], draw.kl_weight, lead)

        with torch.no_grad():
            here, there = each(cost, torch.cat([drawn.z[name][None], values]), draw.vectorised)
        deep = depth(drawn.dims[WEIGHT, name])
        found[name] = (trimmed(slopes[0], lead, deep) * (here - there)).sum(dtype=torch.float64)
    return found


def _add(
    loss: torch.Tensor, found: Mapping[str, torch.Tensor], baselines: dict[str, torch.Tensor] | None
) -> torch.Tensor:
    for value in found.values():
        loss = loss + value.mean()
    return loss


ESTIMATOR = Estimator("disarm", (LOG_Q, ANALYTIC_KL), why_not, because, enter, comes_to_mind=never)
