"""One-flip marginalisation: sites of finite units, each summed over given all the others.

    grad E_q[cost] = sum_i sum_k grad q_i(k) E_q[R(z_i = k, the rest as drawn)]     (Titsias and Lazaro-Gredilla 2015)

One run for each other value of each unit. Where a row of a plate moves no cost of another row, one run flips a unit in
all of them. What the guide draws from a distribution that depends on the site is drawn anew for every flip.
"""

from collections.abc import Mapping
from functools import partial

import torch

from ..distributions.unwrap import kind, unwrapped
from ..pair.costs import WEIGHT, Key
from ..runtime.sites import Site, plates
from ..runtime.vectorise import each
from .estimator import ANALYTIC_KL, LOG_Q, Choice, Estimator, Findings, lacks_rsample
from .recipe import Draw, Part, Recipe
from .score import depth, moved, trimmed

MOST_FLIPS = 256  # runs


def why_not(seen: Findings) -> dict[str, str | None]:
    """{site: None if its units may be summed over one by one, else why not}."""
    return {
        name: _why_not(name, site, seen) if name in seen.finite else _no_units(site)
        for name, site in seen.sites.items()
    }


def _why_not(name: str, site: Site, seen: Findings) -> str | None:
    base = unwrapped(site["fn"])
    if not getattr(base, "has_enumerate_support", False) or base.event_shape:
        return _no_units(site)
    try:
        runs = site["fn"].event_shape.numel() * (len(base.enumerate_support(expand=False)) - 1)
    except NotImplementedError:
        return f"the units of this {kind(site['fn'])} differ in their values"
    if runs > MOST_FLIPS:
        return f"{runs:,} runs, one for each other value of each unit, are too many"
    if not seen.vectorised:
        return "the pair cannot be run for many values at once"
    if coupled := seen.facts.coupled.get(name):
        return f"the draw of a row moves the costs of other rows of plate {', '.join(sorted(coupled))}"
    outside = [
        key[1] for key in seen.facts.reads.moved_by(name) if not plates(site) <= seen.plates.get(key, frozenset())
    ]
    return f"{outside[0]!r} outside its plate depends on it" if outside else None


def _no_units(site: Site) -> str:
    return f"{kind(site['fn'])} has no units of finite support"


def because(name: str, seen: Findings, options: Mapping[str, str | None]) -> str:
    word = kind(seen.sites[name]["fn"])
    return f"each unit of this {word} is tried at its other values, the others as drawn: {options['enumerate']}"


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
        flips=recipe.terms.flips | names,
    )
    return recipe._replace(terms=terms, parts=(*recipe.parts, Part(partial(flips, reach, redrawn), _add)))


def flips(reach: Mapping[str, list[Key]], redrawn: Mapping[str, frozenset[str]], draw: Draw) -> dict[str, torch.Tensor]:
    """{site: a scalar whose gradient is the one of -ELBO through its probabilities}.

    reach: {site: the costs that its draw moves}. redrawn: {site: the draws of the guide that depend on it}.
    """
    found, drawn, lead = {}, draw.run, draw.lead
    for name, keys in reach.items():
        if not keys:
            continue
        values, probability = drawn.neighbours[name]
        if lead:
            values, probability = values.movedim(1, 0), probability.movedim(1, 0)
        held = {k: v.detach() for k, v in drawn.z.items() if k not in redrawn[name] and k != name}

        def cost(z: torch.Tensor, name: str = name, keys: list[Key] = keys, held: dict = held) -> torch.Tensor:
            return moved(draw.evaluate({**held, name: z}), keys, drawn.dims[WEIGHT, name], draw.kl_weight, lead)

        with torch.no_grad():
            costs = each(cost, torch.cat([drawn.z[name][None], values]), draw.vectorised)
        deep = depth(drawn.dims[WEIGHT, name])
        gained = costs[1:] - costs[:1]
        found[name] = (trimmed(probability, 1 + lead, deep) * gained).sum(dtype=torch.float64)
    return found


def _add(
    loss: torch.Tensor, flipped: Mapping[str, torch.Tensor], baselines: dict[str, torch.Tensor] | None
) -> torch.Tensor:
    for value in flipped.values():
        loss = loss + value.mean()
    return loss


ESTIMATOR = Estimator(
    "one-flip",
    (LOG_Q, ANALYTIC_KL),
    why_not,
    because,
    enter,
    comes_to_mind=lacks_rsample,
    beaten_by=lambda other: other == "enumerate",
)
