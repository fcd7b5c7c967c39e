"""Which sites of a model belong to the rows of its data: found by a run with one more row."""

from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch.distributions import constraints

from ..distributions.unwrap import unwrapped
from ..inputs.call import argument_names, parameters
from ..pair.batches import rows_of
from ..pair.pair import Pair
from ..runtime.sites import Site, latent, observed, plates, plates_of_rows
from .continued import ContinuedSites


class RowSites(NamedTuple):
    """The sites of a model that belong to the rows of its data."""

    inside: frozenset[str] = frozenset()  # the latents of rows that the guide has
    along: frozenset[str] = frozenset()  # those of them with an entry for each row along their event
    joint: frozenset[str] = frozenset()  # latent or observed sites that are one dependent draw of all rows
    by_name: tuple[str, ...] = ()  # sites that a model with one more row has in addition, outside of a plate
    fixed: frozenset[str] = frozenset()  # plates over rows whose size does not follow the data


class _AnySite(NamedTuple):
    """Any latent may grow along its event."""

    along: frozenset[str]
    columns: frozenset[tuple[int, int]] = frozenset()


def find_row_sites(pair: Pair, guide: poutine.Trace, model: poutine.Trace) -> RowSites:
    """The sites that belong to rows. guide, model: traces of the pair on its data, which has rows.

    Where the model does not run with one more row: the latents in a plate of that size that holds observations, and
    joint draws of as many numbers as a setting of the model says.
    """
    arguments, n = rows_of(pair.data)
    sites = {name: site for name, site in latent(model).items() if name in latent(guide)}
    once_more = torch.cat([torch.arange(n), torch.tensor([n - 1])])
    data = tuple(v[once_more.to(v.device)] if i in arguments else v for i, v in enumerate(pair.data))
    try:
        with ContinuedSites({name: site["value"] for name, site in sites.items()}, _AnySite(frozenset(sites))):
            longer = poutine.trace(pair.model).get_trace(*data)
        for site in observed(longer).values():
            torch.broadcast_shapes(site["value"].shape, site["fn"].shape())
    except Exception:  # of the user's program, which knows its number of rows
        over = plates_of_rows(model, n)
        inside = frozenset(name for name, site in sites.items() if plates(site) & over)
        return RowSites(inside, joint=_joint_by_number(pair, model, data, n), fixed=frozenset(over))
    sizes = _plate_sizes(longer)
    over = {name for name, size in _plate_sizes(model).items() if size == n and sizes.get(name) == n + 1}
    inside = frozenset(name for name, site in sites.items() if plates(site) & over)
    after: dict[str, Site] = dict(longer.nodes)
    grown = {
        name
        for name, site in (sites | observed(model)).items()
        if name in after and after[name]["fn"].event_shape != site["fn"].event_shape
    }
    along = frozenset(grown & sites.keys()) - inside
    joint = frozenset(name for name in grown if is_joint(model.nodes[name]))
    more = {name: site for name, site in latent(longer).items() if name not in model.nodes}
    by_name = tuple(name for name, site in more.items() if not plates(site) & over)
    return RowSites(inside | along, along, joint, by_name)


def _joint_by_number(pair: Pair, model: poutine.Trace, data: tuple[Any, ...], n: int) -> frozenset[str]:
    """The observed joint draws of n rows where n is a setting, `model(y, n=15)`. data: with one more row."""
    settings = {p.name: n + 1 for p in parameters(pair.model)[len(data) :] if type(p.default) is int and p.default == n}
    more = tuple(v + 1 if type(v) is int and v == n else v for v in data)
    if not settings and all(new is old for new, old in zip(more, data, strict=True)):
        return frozenset()
    sites = latent(model)
    try:
        with ContinuedSites({name: site["value"] for name, site in sites.items()}, _AnySite(frozenset(sites))):
            longer = observed(poutine.trace(pair.model).get_trace(*more, **settings))
    except Exception:  # of the user's program, for which the number may mean something else
        return frozenset()
    return frozenset(
        name
        for name, site in observed(model).items()
        if name in longer and longer[name]["fn"].event_shape != site["fn"].event_shape and is_joint(site)
    )


def is_joint(site: Site) -> bool:
    """Whether a site is one dependent draw of numbers: no counts or shares, no independent numbers."""
    fn = unwrapped(site["fn"])
    support = fn.support if fn.event_shape else constraints.boolean
    return not support.is_discrete and support is not constraints.simplex


def refuse_fixed(pair: Pair, fixed: frozenset[str], values: tuple[Any, ...]) -> None:
    """Raises ValueError for another number of rows than plates of a fixed size have: one row would be broadcast."""
    arguments, n = rows_of(pair.data)
    names = argument_names(pair.model, len(pair.data))
    for i in arguments:
        if fixed and i < len(values) and isinstance(values[i], torch.Tensor) and len(values[i]) != n:
            plate = sorted(fixed)[0]
            raise ValueError(
                f"{names[i]}: got {len(values[i])} rows, but plate {plate!r} has size {n} whatever the data; write its "
                f"size as the number of rows, pyro.plate({plate!r}, len({names[i]}))"
            )


def _plate_sizes(trace: poutine.Trace) -> dict[str, int]:
    nodes = [site for site in trace.nodes.values() if site["type"] == "sample"]
    return {frame.name: frame.size for site in nodes for frame in site["cond_indep_stack"]}
