"""A site whose distribution has no parameters: it is drawn, and no gradient is due."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from ..distributions.unwrap import kind
from ..pair.costs import WEIGHT
from ..runtime.sites import has_rsample
from .estimator import LOG_Q, Choice, Estimator, Findings, never
from .recipe import Draw, Part, Recipe


def why_not(seen: Findings) -> dict[str, str | None]:
    """{site: None if it has no parameters and no path, else why a draw alone would lose its gradient}."""
    return {
        name: None
        if name not in seen.trained and not has_rsample(site)
        else f"{kind(site['fn'])} depends on parameters and would lose its gradient"
        for name, site in seen.sites.items()
    }


def because(name: str, seen: Findings, options: Mapping[str, str | None]) -> str:
    return f"this {kind(seen.sites[name]['fn'])} has no parameters: it is drawn, and no gradient is due"


def enter(recipe: Recipe, chosen: Choice) -> Recipe:
    """The sites have no parameters when a run starts; a part checks that this stays so."""
    if not chosen.sites:
        return recipe
    names = frozenset(chosen.sites)
    terms = recipe.terms._replace(unscaled=recipe.terms.unscaled | names)
    return recipe._replace(terms=terms, parts=(*recipe.parts, Part(partial(_log_q, names), _refuse_parameters)))


def _log_q(names: frozenset[str], draw: Draw) -> dict[str, torch.Tensor]:
    """{site: log q at its draw, a scalar in nats}."""
    found = {name: draw.run.costs.get((WEIGHT, name)) for name in sorted(names)}
    return {name: torch.zeros(()) if cost is None else cost.sum() for name, cost in found.items()}


def _refuse_parameters(
    loss: torch.Tensor, log_q: Mapping[str, Any], baselines: dict[str, torch.Tensor] | None
) -> torch.Tensor:
    for name, value in log_q.items():  # checked out here: inside of vmap a tensor does not say
        if value.requires_grad:
            raise ValueError(
                f"site {name!r}: its distribution now depends on parameters, which it did not at the start"
            )
    return loss


ESTIMATOR = Estimator("sampled", (LOG_Q,), why_not, because, enter, comes_to_mind=never)
