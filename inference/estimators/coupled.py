"""Plates in which the draw of one row moves the costs of other rows."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch

from ..pair.costs import Run
from ..pair.pair import Pair
from ..runtime.probes import at_a_draw, differing, look_near, probing
from ..runtime.sites import Site, plates
from ..runtime.traced import traced
from .dependencies import OFF, Dependencies, another, costs_at, random_draws

Rows = dict[str, set[str]]  # {site: plates}


def coupled_plates(pair: Pair, reads: Dependencies) -> dict[str, frozenset[str]]:
    """{site: the plates in which the draw of a row moves the costs of other rows}, directly or through later draws."""
    sites = random_draws(traced(pair.guide, pair.data))
    found = _coupled_directly(pair, sites)
    for name in reversed(sites):  # what is drawn last comes first
        for later in reads.descendants(name) & sites.keys():
            found[name] |= plates(sites[name]) - plates(sites[later]) | (found[later] & plates(sites[name]))
    return {name: frozenset(rows) for name, rows in found.items()}


def _coupled_directly(pair: Pair, sites: Mapping[str, Site]) -> Rows:
    """{site: the plates in which the draw of one row moves the costs of other rows}, with all other draws held.

    Where this cannot be found out, since the pair fails at such draws, all plates of the sites.
    """
    found: Rows = {name: set() for name in sites}
    if not any(_tested(site) for site in sites.values()):
        return found
    first = int(torch.randint(2**31, ()))
    for place in range(len(OFF)):
        try:
            with probing(tuple(pair)):
                here = look_near(partial(at_a_draw, partial(_coupled_here, pair, first + place)), OFF[place])
        except Exception:  # of the user's own code, which may raise anything
            if OFF[place]:
                continue
            return {name: {frame.name for frame in _tested(site)} for name, site in sites.items()}
        for name in found.keys() & here.keys():
            found[name] |= here[name]
    return found


def _tested(site: Site) -> list[Any]:
    """The plates of a site that have several rows to change one of."""
    return [frame for frame in site["cond_indep_stack"] if frame.vectorized and frame.size > 1]


def _coupled_here(pair: Pair, turn: int, _: int) -> Rows:
    """The same at the present parameters. turn: which row is changed; of two or three rows, each in its turn.

    First a row is changed in all sites of a plate at once: most plates couple no rows, and one run shows it.
    """
    trace = traced(pair.guide, pair.data)
    sites = random_draws(trace)
    values = {name: site["value"] for name, site in sites.items()}
    before = costs_at(pair, values)
    found: Rows = {}
    for frame in {frame.name: frame for site in sites.values() for frame in _tested(site)}.values():
        inside = [name for name, site in sites.items() if frame.name in {f.name for f in _tested(site)}]
        row = turn % frame.size

        def moved(names: Iterable[str], frame: Any = frame, row: int = row) -> bool:
            changed = {name: _with_another_row(sites[name], frame, row) for name in names}
            return _moved_elsewhere(before, costs_at(pair, values | changed), frame, row)

        if moved(inside):
            for name in inside if len(inside) == 1 else filter(lambda name: moved([name]), inside):
                found.setdefault(name, set()).add(frame.name)
    return found


def _with_another_row(site: Site, frame: Any, row: int) -> torch.Tensor:
    """The value of the site, one row of a plate drawn anew."""
    value = site["value"]
    axis = value.dim() - len(site["fn"].event_shape) + frame.dim
    changed: torch.Tensor = value.clone()
    changed.select(axis, row).copy_(another(site["fn"], value).select(axis, row))
    return changed


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
