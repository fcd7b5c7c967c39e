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

from .costs import WEIGHT, Costs, Pair, Plates, run
from .draws import Differing, each
from .looks import elsewhere, without_dropout
from .sites import Site, drawn, unwrapped

MOST = 256  # runs: the product of the sizes of all supports


def on_grid(
    pair: Pair,
    values: Mapping[str, torch.Tensor],
    kl: frozenset[str],
    vectorised: bool,
    fixed: frozenset[str] = frozenset(),
) -> tuple[dict[str, torch.Tensor], Costs]:
    """(the latents of each run, the costs averaged over q of the finite sites, a scalar each).

    values: {site: its support, shape (K, *event shape)}. A cost is weighted by the sites whose plates hold it too.
    """
    where: Plates = {}

    def one(held: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], Costs]:
        z, costs, found = run(pair, held, kl, frozenset(values) | fixed)
        where.update(found)
        return z, costs

    z, costs = each(one, _grid(values), vectorised)
    total = math.prod(len(v) for v in values.values())
    averaged: Costs = {}
    for key, cost in costs.items():
        if key[0] == WEIGHT:
            if key[1] in fixed:
                averaged[key] = cost
            continue
        weight, others = torch.ones((), device=cost.device), total
        for site in values:
            if where[WEIGHT, site] <= where[key]:
                weight = weight * _pad(costs[WEIGHT, site], cost.dim()).exp()
                others //= len(values[site])
        possible = torch.where(weight > 0, cost, 0.0)  # 0 times infinity is 0: a value that q excludes
        averaged[key] = (weight * possible).sum(dtype=torch.float64) / others
    return z, averaged


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
    if values and (cause := _coupled(pair, guide, values, vectorised)):
        why |= dict.fromkeys(values, cause)
        values = {}
    return values, why


def _support(fn: Any) -> torch.Tensor | str:
    kind = type(unwrapped(fn)).__name__
    if not getattr(fn, "has_enumerate_support", False) and getattr(unwrapped(fn), "has_enumerate_support", False):
        return f"its units are one event: every combination of {kind} values would be a run"
    if not getattr(fn, "has_enumerate_support", False):
        return f"{kind} has no finite support"
    try:
        support = fn.enumerate_support(expand=False)
    except NotImplementedError:
        return f"its units are one event, or differ in their values: the runs of this {kind} cannot be listed"
    return support.reshape(len(support), *fn.event_shape)


def _coupled(pair: Pair, guide: poutine.Trace, values: Mapping[str, torch.Tensor], vectorised: bool) -> str | None:
    """Why summing row by row would be wrong, or None. Looked at where the parameters are, and a little off."""
    for off in (0.0, 0.1):
        with torch.no_grad(), elsewhere(off), without_dropout(tuple(pair)):
            try:
                if cause := _coupled_here(pair, guide, values, vectorised):
                    return cause
            except Differing:
                return "the pair has other sites for some of its values"
    return None


def _coupled_here(pair: Pair, guide: poutine.Trace, values: Mapping[str, torch.Tensor], vectorised: bool) -> str | None:
    """Rows of mixed values must cost what they cost in equal ones; what stands outside their plate, always the same."""
    sites: dict[str, Site] = {name: guide.nodes[name] for name in values}
    others = {name: site["value"].detach() for name, site in drawn(guide).items() if name not in values}
    sizes = [len(v) for v in values.values()]
    where: Plates = {}

    def costs_of(one: dict[str, torch.Tensor]) -> Costs:
        _, found, plates = run(pair, others | one, weights=frozenset(values))
        where.update(plates)
        return found

    cells_of = each(costs_of, _grid(values), vectorised)
    for axis, name in enumerate(values):
        probability = cells_of[WEIGHT, name].exp().unflatten(0, sizes).sum(axis)
        if not torch.allclose(probability, torch.ones_like(probability), rtol=1e-3):
            return f"the probabilities of its values do not add up to one (a mask on {name!r}?)"
        for key, cost in cells_of.items():
            cells = cost.unflatten(0, sizes)
            if not where[WEIGHT, name] <= where[key] and not _alike(cells, cells.narrow(axis, 0, 1).expand_as(cells)):
                return f"the density of {key[1]!r} depends on its values in other rows"
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
            if _alike(cost, expected):
                continue
            if inside := [name for name in covering if where[WEIGHT, name]]:
                raise ValueError(
                    f"site {inside[0]!r}: the density of {key[1]!r} at one row of the plate depends on values in other "
                    f"rows (batch norm?), or on noise outside of pyro.sample: no estimator is unbiased; make the rows "
                    f"independent or take the plate away"
                )
            return f"the density of {key[1]!r} depends on its values in other rows"
    return None


def _alike(one: torch.Tensor, two: torch.Tensor) -> bool:
    finite = two[two.isfinite()]
    slack = 1e-5 * max(1.0, finite.abs().max().item() if finite.numel() else 1.0)
    return torch.allclose(one, two, rtol=1e-4, atol=slack, equal_nan=True)


def _pad(t: torch.Tensor, dim: int) -> torch.Tensor:
    return t.reshape(len(t), *[1] * (dim - t.dim()), *t.shape[1:])


def _grid(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All combinations: {site: shape (G, *event shape)}, G the product of the sizes of the supports."""
    index = torch.cartesian_prod(*[torch.arange(len(v)) for v in values.values()]).reshape(-1, len(values))
    return {name: v[index[:, i].to(v.device)] for i, (name, v) in enumerate(values.items())}
