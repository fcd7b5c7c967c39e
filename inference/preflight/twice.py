"""Finds data that is counted twice: the same values observed at two sites by the same distribution."""

from typing import Any

import torch
from pyro import poutine

from ..runtime.sites import Site, is_factor, observed, quoted

LEAST = 4  # numbers: fewer may be equal by chance
CLOSE = 1e-5  # of a log density: two ways to add it up


def observed_twice(model: poutine.Trace) -> list[str]:
    """A warning for observed sites with the same values and densities. model: a trace, already scored.

    Values are the same if they are the same memory, or equal real numbers; whole numbers may be equal by chance.
    """
    groups: dict[Any, list[str]] = {}
    sites = observed(model)
    for name, site in sites.items():
        value = site["value"]
        if isinstance(value, torch.Tensor) and value.numel() >= LEAST:
            key = (type(site["fn"]).__name__, value.shape, site["unscaled_log_prob"].shape)
            groups.setdefault(key, []).append(name)
    found = _again_in_a_factor(sites)
    for names in groups.values():
        while len(names) > 1:
            first, *rest = names
            same = [name for name in rest if _same(sites[first], sites[name])]
            if same:
                found.append(
                    f"{quoted([first, *same])}: the same values are observed by the same distribution, so that the "
                    f"data count {len(same) + 1} times and sds come out too small; observe them once"
                )
            names = [name for name in rest if name not in same]
    return found


def _again_in_a_factor(sites: dict[str, Site]) -> list[str]:
    """A warning for each pyro.factor that adds the log density of an observed site again, as rows or as their sum."""
    found = []
    for name, site in sites.items():
        value, cost = site["value"], site["unscaled_log_prob"]
        if is_factor(site) or not isinstance(value, torch.Tensor) or value.numel() < LEAST or not cost.any():
            continue
        for other in (other for other, factor in sites.items() if is_factor(factor)):
            again = sites[other]["unscaled_log_prob"]
            rows = again.shape == cost.shape and cost.numel() > 1 and torch.allclose(again, cost, rtol=CLOSE)
            if rows or (again.numel() == 1 and torch.allclose(again.flatten()[0], cost.sum(), rtol=CLOSE)):
                found.append(
                    f"{quoted([name, other])}: the factor adds the log density of the observed site once more, so that "
                    f"the data count twice and sds come out too small; leave out the factor, or obs="
                )
    return found


def _same(one: Site, two: Site) -> bool:
    x, y = one["value"], two["value"]
    memory = x.data_ptr() == y.data_ptr() and x.stride() == y.stride() and x.dtype == y.dtype
    if not memory and (not x.is_floating_point() or (x == x.round()).all()):
        return False
    return (memory or torch.equal(x, y)) and torch.equal(one["unscaled_log_prob"], two["unscaled_log_prob"])
