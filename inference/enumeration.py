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
from .draws import each
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
        averaged[key] = (weight * cost).sum(dtype=torch.float64) / others
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
        return f"its units are one event: every combination of {kind} values would be a run"
    return support.reshape(len(support), *fn.event_shape)


def _coupled(pair: Pair, guide: poutine.Trace, values: Mapping[str, torch.Tensor], vectorised: bool) -> str | None:
    """Why summing row by row would be wrong, or None: rows of mixed values must cost what they cost in equal ones."""
    sites: dict[str, Site] = {name: guide.nodes[name] for name in values}
    others = {name: site["value"].detach() for name, site in drawn(guide).items() if name not in values}
    index = {  # a value for each row, the first rows going through all of them
        name: (1 + torch.randperm(max(s["fn"].batch_shape.numel(), 1))).reshape(s["fn"].batch_shape) % len(values[name])
        for name, s in sites.items()
    }
    mixed = {name: v[index[name].to(v.device)] for name, v in values.items()}
    with torch.no_grad():
        _, found, where = run(pair, others | mixed, weights=frozenset(values))
        cells_of = each(lambda one: run(pair, others | one, weights=frozenset(values))[1], _grid(values), vectorised)
    strides, stride = {}, 1
    for name in reversed(list(values)):
        strides[name], stride = stride, stride * len(values[name])
    for axis, name in enumerate(values):
        probability = cells_of[WEIGHT, name].exp().unflatten(0, [len(v) for v in values.values()]).sum(axis)
        if not torch.allclose(probability, torch.ones_like(probability), rtol=1e-3):
            return f"the probabilities of its values do not add up to one (a mask on {name!r}?)"
    for key, cost in found.items():
        cells = torch.zeros((), dtype=torch.int64)
        for name in values:
            if where[WEIGHT, name] <= where[key]:
                cells = cells + strides[name] * index[name]
        index_of_run = cells.to(cost.device).expand(cost.shape)
        expected = cells_of[key].gather(0, index_of_run[None])[0]
        slack = 1e-5 * max(1.0, expected[expected.isfinite()].abs().max().item() if expected.isfinite().any() else 1.0)
        if not torch.allclose(cost, expected, rtol=1e-4, atol=slack):
            inside = next((n for n in values if where[WEIGHT, n] and where[WEIGHT, n] <= where[key]), None)
            if inside is not None:
                raise ValueError(
                    f"site {inside!r}: the density of {key[1]!r} at one row of the plate depends on values in other "
                    f"rows (batch norm?): no estimator is unbiased; make the rows independent or take the plate away"
                )
            return f"the density of {key[1]!r} depends on its values in other rows"
    return None


def _pad(t: torch.Tensor, dim: int) -> torch.Tensor:
    return t.reshape(len(t), *[1] * (dim - t.dim()), *t.shape[1:])


def _grid(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All combinations: {site: shape (G, *event shape)}, G the product of the sizes of the supports."""
    index = torch.cartesian_prod(*[torch.arange(len(v)) for v in values.values()]).reshape(-1, len(values))
    return {name: v[index[:, i].to(v.device)] for i, (name, v) in enumerate(values.items())}
