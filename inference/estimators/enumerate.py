"""Finite latent sites summed over exactly: the pair is run once for every value, each run weighted by q(value).

    E_q[cost] = sum_k q(z = k) cost(z = k)        no draw, no noise (Jang et al. 2017 call it marginalisation)

A site in a plate takes the value k in all its rows at once: K runs, not K^N. That is right if each row's costs depend
on its own value only, and costs outside the plate on none; `finite_sites` finds out by looking, before it is done.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pyro import poutine

from ..distributions.unwrap import kind, unwrapped
from ..pair.costs import WEIGHT, Costs, Dims, Key, Plates, Run, Terms, run
from ..pair.pair import Pair
from ..runtime.probes import nearly_equal, parameters_moved, without_dropout
from ..runtime.sites import Site, drawn
from ..runtime.vectorise import Differing, each

TIED = "(batch norm?)"  # rows of a plate look at each other, as against one that stands outside of it


MOST = 256  # runs: the product of the sizes of all supports


def on_grid(
    pair: Pair,
    values: Mapping[str, torch.Tensor],
    terms: Terms,
    vectorised: bool,
    held: Mapping[str, torch.Tensor] | None = None,
    unmoved: Mapping[str, frozenset[Key]] | None = None,
) -> Run:
    """One run for each combination of the values, costs weighted: their sum over the first dimension is what to take.

    values: {site: its support, shape (K, *event shape)}. A cost is weighted by the sites whose plates hold it too, but
    for those that do not move it (unmoved: {site: such costs}): they would add nothing but noise. held: values of other
    latents, the combinations first. Of the Run all tensors have the combinations first, and costs the same number of
    dimensions after that.
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
    """Why summing row by row would be wrong, or None. Looked at where the parameters are, and a little off."""
    for off in (0.0, 0.1):
        with torch.no_grad(), parameters_moved(off), without_dropout(tuple(pair)):
            try:
                if cause := _coupled_here(pair, guide, values, vectorised):
                    return cause
            except Differing:
                return list(values), "the pair has other sites for some of its values"
    return None


def _coupled_here(
    pair: Pair, guide: poutine.Trace, values: Mapping[str, torch.Tensor], vectorised: bool
) -> Cause | None:
    """Rows of mixed values must cost what they cost in equal ones; what stands outside their plate, always the same."""
    sites: dict[str, Site] = {name: guide.nodes[name] for name in values}
    others = {name: site["value"].detach() for name, site in drawn(guide).items() if name not in values}
    sizes = [len(v) for v in values.values()]
    where: Plates = {}

    def costs_of(one: dict[str, torch.Tensor]) -> Costs:
        found = run(pair, others | one, Terms(weights=frozenset(values)))
        where.update(found.plates)
        return found.costs

    cells_of = each(costs_of, _grid(values), vectorised)
    for axis, name in enumerate(values):
        probability = cells_of[WEIGHT, name].exp().unflatten(0, sizes).sum(axis)
        if not torch.allclose(probability, torch.ones_like(probability), rtol=1e-3):
            return [name], "the probabilities of its values do not add up to one"
        for key, cost in cells_of.items():
            cells = cost.unflatten(0, sizes)
            if not where[WEIGHT, name] <= where[key] and not nearly_equal(
                cells, cells.narrow(axis, 0, 1).expand_as(cells)
            ):
                return [name], f"the density of {key[1]!r} depends on its values in other rows"
    strides = dict(zip(values, (math.prod(sizes[i + 1 :]) for i in range(len(sizes))), strict=True))
    rows = [max(site["fn"].batch_shape.numel(), 1) for site in sites.values()]
    for turn in range(max(-(-k // n) if n > 1 else 1 for k, n in zip(sizes, rows, strict=True))):
        index = {  # a value for each row; over the turns every value comes
            name: ((turn * n + 1 + torch.randperm(n)) % k).reshape(sites[name]["fn"].batch_shape)
            for name, k, n in zip(values, sizes, rows, strict=True)
        }
        mixed = {name: v[index[name].to(v.device)] for name, v in values.items()}
        for key, cost in costs_of(mixed).items():
            covering = [name for name in values if where[WEIGHT, name] <= where[key]]
            cell = sum((strides[name] * index[name] for name in covering), torch.zeros((), dtype=torch.int64))
            expected = cells_of[key].gather(0, cell.to(cost.device).expand(cost.shape)[None])[0]
            if not nearly_equal(cost, expected):
                blamed = [name for name in covering if where[WEIGHT, name]] or list(values)
                return blamed, f"the density of {key[1]!r} depends on its values in other rows {TIED}"
    return None


def _pad(t: torch.Tensor, dim: int) -> torch.Tensor:
    return t.reshape(len(t), *[1] * (dim - t.dim()), *t.shape[1:])


def _grid(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All combinations: {site: shape (G, *event shape)}, G the product of the sizes of the supports."""
    index = torch.cartesian_prod(*[torch.arange(len(v)) for v in values.values()]).reshape(-1, len(values))
    return {name: v[index[:, i].to(v.device)] for i, (name, v) in enumerate(values.items())}
