"""Finite latent sites summed over exactly: the pair is run once for every value, each run weighted by q(value).

    E_q[cost] = sum_k q(z = k) cost(z = k)        no draw, no noise (Jang et al. 2017 call it marginalisation)

A site in a plate takes the value k in all its rows at once: K runs, not K^N. That is right if the costs of each row
depend on its own value only, and costs outside the plate on none; `finite_sites` checks this before it is done.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..distributions.unwrap import kind, unwrapped
from ..pair.costs import WEIGHT, Costs, Dims, Key, Plates, Run, Terms, run
from ..pair.pair import Pair
from ..runtime.probes import nearly_equal, parameters_moved, without_dropout
from ..runtime.sites import Site, drawn, has_rsample
from ..runtime.vectorise import Differing, each
from .estimator import LOG_Q, Choice, Estimator, Evidence
from .recipe import Recipe

TIED = "(batch norm?)"  # marks that rows of one plate move each other's costs
MOST = 256  # runs: the product of the sizes of all supports


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
    terms = terms._replace(weights=terms.weights | values.keys())

    def one(fixed: dict[str, torch.Tensor]) -> tuple[Any, ...]:
        found = run(pair, fixed, terms)
        where.update(found.plates)
        dims.update(found.dims)
        return found.z, found.costs, found.neighbours

    z, costs, neighbours = each(one, {**_grid(values), **(held or {})}, vectorised)
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


def finite_sites(
    pair: Pair, guide: poutine.Trace, names: Iterable[str], vectorised: bool
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """({site: its values, shape (K, *event shape)}, {site: why it cannot be summed over})."""
    values: dict[str, torch.Tensor] = {}
    why: dict[str, str] = {}
    for name in names:
        found = _support(guide.nodes[name]["fn"])
        if isinstance(found, str):
            why[name] = found
        else:
            values[name] = found
    for name in sorted(values, key=lambda n: -len(values[n])):
        runs = math.prod(len(v) for v in values.values())
        if runs > MOST:
            why[name] = f"{runs:,} combinations of values are too many to sum over"
            del values[name]
    while values and (found_out := _coupled(pair, guide, values, vectorised)):
        blamed, cause = found_out
        why |= dict.fromkeys(blamed, cause)
        values = {name: v for name, v in values.items() if name not in blamed}
    return values, why


def _support(fn: Any) -> torch.Tensor | str:
    word = kind(fn)
    if not getattr(fn, "has_enumerate_support", False) and getattr(unwrapped(fn), "has_enumerate_support", False):
        return f"its units are one event: every combination of {word} values would be a run"
    if not getattr(fn, "has_enumerate_support", False):
        return f"{word} has no finite support"
    try:
        support = fn.enumerate_support(expand=False)
    except NotImplementedError:
        return f"its units are one event, or differ in their values: the runs of this {word} cannot be listed"
    return support.reshape(len(support), *fn.event_shape)


Cause = tuple[list[str], str]  # the sites that cannot be summed over, and why


def _coupled(pair: Pair, guide: poutine.Trace, values: Mapping[str, torch.Tensor], vectorised: bool) -> Cause | None:
    """Why summing row by row would be wrong, or None. Checked at the parameters and at a place nearby."""
    for off in (0.0, 0.1):
        with torch.no_grad(), parameters_moved(off), without_dropout(tuple(pair)):
            try:
                if cause := _coupled_here(pair, guide, values, vectorised):
                    return cause
            except Differing:
                return list(values), "the pair has other sites for some of its values"
    return None


class _Cells(NamedTuple):
    """Costs with all rows at the same values: one cell for each combination of values, in the first dimension."""

    values: Mapping[str, torch.Tensor]
    costs: Costs
    plates: Plates

    @property
    def sizes(self) -> list[int]:
        return [len(v) for v in self.values.values()]


def _coupled_here(
    pair: Pair, guide: poutine.Trace, values: Mapping[str, torch.Tensor], vectorised: bool
) -> Cause | None:
    """Rows of mixed values must cost what they cost in equal ones; what stands outside their plate, always the same."""
    others = {name: site["value"].detach() for name, site in drawn(guide).items() if name not in values}
    plates: Plates = {}

    def costs_of(one: dict[str, torch.Tensor]) -> Costs:
        found = run(pair, others | one, Terms(weights=frozenset(values)))
        plates.update(found.plates)
        return found.costs

    cells = _Cells(values, each(costs_of, _grid(values), vectorised), plates)
    return _moved_outside(cells) or _mixed_rows_differ(cells, guide, costs_of)


def _moved_outside(cells: _Cells) -> Cause | None:
    """Why not, by costs outside of a site's plates that its values move, or by probabilities that are not one."""
    for axis, name in enumerate(cells.values):
        probability = cells.costs[WEIGHT, name].exp().unflatten(0, cells.sizes).sum(axis)
        if not torch.allclose(probability, torch.ones_like(probability), rtol=1e-3):
            return [name], "the probabilities of its values do not add up to one"
        for key, cost in cells.costs.items():
            here = cost.unflatten(0, cells.sizes)
            covered = cells.plates[WEIGHT, name] <= cells.plates[key]
            if not covered and not nearly_equal(here, here.narrow(axis, 0, 1).expand_as(here)):
                return [name], f"the density of {key[1]!r} depends on its values in other rows"
    return None


def _mixed_rows_differ(
    cells: _Cells, guide: poutine.Trace, costs_of: Callable[[dict[str, torch.Tensor]], Costs]
) -> Cause | None:
    """Why not, by rows that cost something else when other rows have other values."""
    values, sizes = cells.values, cells.sizes
    strides = dict(zip(values, (math.prod(sizes[i + 1 :]) for i in range(len(sizes))), strict=True))
    shapes = {name: guide.nodes[name]["fn"].batch_shape for name in values}
    rows = {name: max(shape.numel(), 1) for name, shape in shapes.items()}
    turns = (-(-k // n) if n > 1 else 1 for k, n in zip(sizes, rows.values(), strict=True))
    for turn in range(max(turns)):
        index = {  # a value for each row; over the turns every value comes
            name: ((turn * n + 1 + torch.randperm(n)) % len(values[name])).reshape(shapes[name])
            for name, n in rows.items()
        }
        mixed = {name: v[index[name].to(v.device)] for name, v in values.items()}
        for key, cost in costs_of(mixed).items():
            covering = [name for name in values if cells.plates[WEIGHT, name] <= cells.plates[key]]
            cell = sum((strides[name] * index[name] for name in covering), torch.zeros((), dtype=torch.int64))
            expected = cells.costs[key].gather(0, cell.to(cost.device).expand(cost.shape)[None])[0]
            if not nearly_equal(cost, expected):
                blamed = [name for name in covering if cells.plates[WEIGHT, name]] or list(values)
                return blamed, f"the density of {key[1]!r} depends on its values in other rows {TIED}"
    return None


def _pad(t: torch.Tensor, dim: int) -> torch.Tensor:
    return t.reshape(len(t), *[1] * (dim - t.dim()), *t.shape[1:])


def _grid(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All combinations: {site: shape (G, *event shape)}, G the product of the sizes of the supports."""
    index = torch.cartesian_prod(*[torch.arange(len(v)) for v in values.values()]).reshape(-1, len(values))
    return {name: v[index[:, i].to(v.device)] for i, (name, v) in enumerate(values.items())}


def why_not(seen: Evidence) -> dict[str, str | None]:
    """{site: None if it may be summed over, else why not}."""
    return {
        name: None
        if name in seen.facts.values
        else seen.unsummed.get(name, f"{kind(site['fn'])} has no finite support with parameters")
        for name, site in seen.sites.items()
    }


def because(name: str, seen: Evidence, options: Mapping[str, str | None]) -> str:
    return f"{len(seen.facts.values[name])} values, each tried and weighted by its probability"


def enter(recipe: Recipe, chosen: Choice) -> Recipe:
    """The pair is run once for each combination of the values of these sites."""
    facts, names = chosen.facts, chosen.sites
    seen = frozenset(facts.reads.parents)
    unmoved = {name: seen.difference(facts.reads.moved_by(name, chosen.kl)) for name in names}
    return recipe._replace(values={name: facts.values[name] for name in names}, unmoved=unmoved)


def _comes_to_mind(site: Site) -> bool:
    return not has_rsample(site)


ESTIMATOR = Estimator("enumerate", (LOG_Q,), why_not, because, enter, comes_to_mind=_comes_to_mind)
