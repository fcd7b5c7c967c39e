"""Finite latent sites summed over exactly: the pair is run once for every value, each run weighted by q(value).

    E_q[cost] = sum_k q(z = k) cost(z = k)        no draw, no noise (Jang et al. 2017 call it marginalisation)

A site in a plate takes the value k in all its rows at once: K runs, not K^N. That is right if the costs of each row
depend on its own value only, and costs outside the plate on none; `finite_sites` checks this first.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from ..distributions.unwrap import kind
from ..pair.costs import WEIGHT, Costs, Dims, Key, Plates, Run, Terms, run
from ..pair.pair import Pair
from ..runtime.vectorise import each
from .estimator import LOG_Q, Choice, Estimator, Findings, lacks_rsample
from .recipe import Recipe


def on_grid(
    pair: Pair,
    values: Mapping[str, torch.Tensor],
    terms: Terms,
    vectorised: bool,
    held: Mapping[str, torch.Tensor] | None = None,
    unmoved: Mapping[str, frozenset[Key]] | None = None,
) -> Run:
    """One run for each combination of the values; its costs, summed over the first dimension, are the expected costs.

    values: {site: its support, shape (K, *event shape)}. A cost is weighted by the sites whose plates hold it too,
    except sites that do not move it (unmoved: {site: such costs}): they would add nothing but noise. held: values of
    other latents, the combinations first. All tensors of the Run have the combinations first, and all costs have the
    same number of dimensions after that.
    """
    if not values:
        return run(pair, held, terms)
    where: Plates = {}
    dims: Dims = {}
    terms = terms._replace(unscaled=terms.unscaled | values.keys())

    def one(fixed: dict[str, torch.Tensor]) -> tuple[Any, ...]:
        found = run(pair, fixed, terms)
        where.update(found.plates)
        dims.update(found.dims)
        return found.z, found.costs, found.neighbours

    z, costs, neighbours = each(one, {**grid(values), **(held or {})}, vectorised)
    if missing := [name for name in values if (WEIGHT, name) not in costs]:
        raise ValueError(
            f"site {missing[0]!r}: the guide does not draw it now and did when the run met its data; begin another run "
            f"(credo.SVI) for data of this kind"
        )
    total = math.prod(len(v) for v in values.values())
    deepest = max(cost.dim() for cost in costs.values())
    weighted: Costs = {}
    for key, cost in costs.items():
        cost = _pad(cost, deepest)
        if key[0] == WEIGHT:
            weighted[key] = cost
            continue
        weight, others = torch.ones((), device=cost.device), total
        for site in values:
            if where[WEIGHT, site] <= where[key] and key not in (unmoved or {}).get(site, ()):
                weight = weight * _pad(costs[WEIGHT, site], deepest).exp()
                others //= len(values[site])
        possible = torch.where(weight > 0, cost, 0.0)  # 0 times infinity is 0: a value that q excludes
        weighted[key] = weight * possible / others
    return Run(z, weighted, where, dims, neighbours)


def _pad(t: torch.Tensor, dim: int) -> torch.Tensor:
    return t.reshape(len(t), *[1] * (dim - t.dim()), *t.shape[1:])


def grid(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All combinations: {site: shape (G, *event shape)}, G the product of the sizes of the supports."""
    index = torch.cartesian_prod(*[torch.arange(len(v)) for v in values.values()]).reshape(-1, len(values))
    return {name: v[index[:, i].to(v.device)] for i, (name, v) in enumerate(values.items())}


def why_not(seen: Findings) -> dict[str, str | None]:
    """{site: None if it may be summed over, else why not}."""
    return {
        name: None
        if name in seen.facts.values
        else seen.unsummed.get(name, f"{kind(site['fn'])} has no finite support with parameters")
        for name, site in seen.sites.items()
    }


def because(name: str, seen: Findings, options: Mapping[str, str | None]) -> str:
    return f"{len(seen.facts.values[name])} values, each tried and weighted by its probability"


def enter(recipe: Recipe, chosen: Choice) -> Recipe:
    """The pair is run once for each combination of the values of these sites."""
    facts, names = chosen.facts, chosen.sites
    seen = frozenset(facts.reads.parents)
    unmoved = {name: seen.difference(facts.reads.moved_by(name, chosen.kl)) for name in names}
    return recipe._replace(values={name: facts.values[name] for name in names}, unmoved=unmoved)


ESTIMATOR = Estimator("enumerate", (LOG_Q,), why_not, because, enter, comes_to_mind=lacks_rsample)
