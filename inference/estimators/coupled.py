"""Plates in which the draw of one row moves the costs of other rows."""

from typing import Any

import torch
from pyro import poutine

from ..pair.costs import Run
from ..pair.pair import Pair
from ..runtime.probes import differing, probing
from ..runtime.sites import Site, plates
from .dependencies import OFF, Dependencies, another, costs_at, random_draws


def coupled_plates(pair: Pair, reads: Dependencies) -> dict[str, frozenset[str]]:
    """{site: the plates in which the draw of a row moves the costs of other rows}, directly or through later draws."""
    sites = random_draws(poutine.trace(pair.guide).get_trace(*pair.data))
    found = {name: set(rows) for name, rows in _coupled_directly(pair, list(sites)).items()}
    for name in reversed(sites):  # what is drawn last comes first
        for later in reads.descendants(name) & sites.keys():
            found[name] |= plates(sites[name]) - plates(sites[later]) | (found[later] & plates(sites[name]))
    return {name: frozenset(rows) for name, rows in found.items()}


def _coupled_directly(pair: Pair, names: list[str]) -> dict[str, set[str]]:
    """{site: the plates in which the draw of one row moves the costs of other rows}, with all other draws held."""
    found: dict[str, set[str]] = {name: set() for name in names}
    first = int(torch.randint(2**31, ()))
    for place in range(len(OFF) if names else 0):
        with probing(tuple(pair), OFF[place]):
            trace = poutine.trace(pair.guide).get_trace(*pair.data)
            values = {name: site["value"] for name, site in random_draws(trace).items()}
            before = costs_at(pair, values)
            for name in values.keys() & set(names):
                site: Site = trace.nodes[name]
                value = values[name]
                for frame in site["cond_indep_stack"]:
                    if not frame.vectorized or frame.size < 2:
                        continue
                    axis = value.dim() - len(site["fn"].event_shape) + frame.dim
                    row = (first + place) % frame.size  # of two or three rows, each
                    changed = value.clone()
                    changed.select(axis, row).copy_(another(site["fn"], value).select(axis, row))
                    if _moved_elsewhere(before, costs_at(pair, values | {name: changed}), frame, row):
                        found[name].add(frame.name)
    return found


def _moved_elsewhere(before: Run, after: Run, frame: Any, row: int) -> bool:
    """Whether a cost in this plate changed in another row than this one."""
    for key, cost in before.costs.items():
        if before.dims[key].get(frame.name) != frame.dim or cost.dim() < -frame.dim or key not in after.costs:
            continue
        if cost.shape[frame.dim] != frame.size or after.costs[key].shape != cost.shape:
            continue
        moved = differing(cost, after.costs[key]).movedim(frame.dim, 0)
        if moved[torch.arange(frame.size) != row].any():
            return True
    return False
