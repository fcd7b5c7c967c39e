"""Where a prediction takes each latent from: the rows of the fit, a guide run on the new rows, or the model.

    p(y* | x*, data) = int p(y* | x*, z*, theta) p(z* | x*, theta) q(theta),   z* the latents of the new rows

Latents theta that all rows share come from the guide. A latent of a row (one in a plate over the rows, or with an entry
for each row) belongs to that row: other rows have others. They are drawn anew, by the guide where it computes them from
the data of the rows (amortised), else from the model given theta.
"""

from contextlib import suppress
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..distributions.unwrap import kind, unwrapped
from ..pair.batches import rows_of
from ..runtime.call import argument_names
from ..runtime.held import HeldSites
from ..runtime.sites import Site, drawn_sites, latent, observed, plates
from .approximation import Approximation
from .continued import ContinuedSites


class Sources(NamedTuple):
    """Where a prediction takes each latent from; the model draws those in neither set."""

    kept: frozenset[str] = frozenset()  # from the guide at the rows of the fit
    computed: frozenset[str] = frozenset()  # from the guide at the new rows
    along: frozenset[str] = frozenset()  # latents whose event has an entry for each row
    columns: frozenset[tuple[int, int]] = frozenset()  # widths of data that changed, as (in the fit, now)


def sources(fit: Approximation, values: tuple[Any, ...]) -> Sources:
    """Where the latents of a prediction at these arguments come from. It is called while the fit is read.

    Raises ValueError for a latent of the rows of the fit that can neither be kept nor drawn anew.
    """
    guide = poutine.trace(fit.guide).get_trace(*fit.data)
    names = frozenset(latent(guide))
    changed = [new for new, old in zip(values, fit.data, strict=False) if new is not None and not _equal(new, old)]
    rows = any(isinstance(v, torch.Tensor) and v.dim() > 0 for v in fit.data)
    if not rows or not (changed or len(values) > len(fit.data)):
        return Sources(names)
    model = poutine.trace(poutine.replay(fit.model, trace=guide)).get_trace(*fit.data)
    local = _of_rows(fit, guide, model)
    _refuse_fixed(fit, local.fixed, values)
    computed = frozenset(name for name in _amortised(fit, guide) & local.inside if _draws(fit, values, name))
    columns = _changed_columns(fit, model, values)
    if _same_rows(fit, model, values):
        return Sources(names - computed, computed, local.along, columns)
    joint = [name for name in sorted(local.along - computed) if unwrapped(model.nodes[name]["fn"]).event_shape]
    if joint or local.by_name:
        name = next(iter(joint or local.by_name))
        law = kind(model.nodes[name]["fn"]) if joint else ""
        what = f"one joint draw of all rows ({law})" if joint else "a site of a row by its name"
        raise ValueError(
            f"site {name!r}: {what}, so that rows other than those of the fit have no draw of their own; begin the new "
            f"data with all rows of the fit, or put what belongs to a row into a plate, pyro.plate('N', len(x))"
        )
    return Sources(names - local.inside, computed, local.along, columns)


def believed(fit: Approximation, values: tuple[Any, ...], found: Sources) -> dict[str, torch.Tensor]:
    """One draw of the latents that come from the guide: {site: value}."""
    held: dict[str, torch.Tensor] = {}
    if found.kept:
        trace = poutine.trace(fit.guide).get_trace(*fit.data)
        held = {name: trace.nodes[name]["value"] for name in found.kept}
    if found.computed:
        trace = poutine.trace(HeldSites(held)(fit.guide)).get_trace(*values)
        held |= {name: trace.nodes[name]["value"] for name in found.computed}
    return held


class _Local(NamedTuple):
    """The latents that belong to rows."""

    inside: frozenset[str]  # all that the guide has
    along: frozenset[str] = frozenset()  # those of them with an entry for each row along their event
    by_name: tuple[str, ...] = ()  # sites that a model with one more row has in addition, outside of a plate
    fixed: frozenset[str] = frozenset()  # plates over rows whose size does not follow the data


def _of_rows(fit: Approximation, guide: poutine.Trace, model: poutine.Trace) -> _Local:
    """The latents that belong to rows, by a run of the model with one more row, the last one again.

    Where the model does not run with one more row: the latents in a plate of that size that holds observations.
    """
    arguments, n = rows_of(fit.data)
    sites = {name: site for name, site in latent(model).items() if name in latent(guide)}
    once_more = torch.cat([torch.arange(n), torch.tensor([n - 1])])
    data = tuple(v[once_more.to(v.device)] if i in arguments else v for i, v in enumerate(fit.data))
    try:
        with ContinuedSites({name: site["value"] for name, site in sites.items()}, Sources(along=frozenset(sites))):
            longer = poutine.trace(fit.model).get_trace(*data)
    except Exception:  # of the user's program, which knows its number of rows
        over = {f.name for site in observed(model).values() for f in site["cond_indep_stack"] if f.size == n}
        return _Local(frozenset(name for name, site in sites.items() if plates(site) & over), fixed=frozenset(over))
    sizes = _plate_sizes(longer)
    over = {name for name, size in _plate_sizes(model).items() if size == n and sizes.get(name) == n + 1}
    inside = frozenset(name for name, site in sites.items() if plates(site) & over)
    others = (sites.keys() - inside) & longer.nodes.keys()
    along = frozenset(n for n in others if longer.nodes[n]["fn"].event_shape != sites[n]["fn"].event_shape)
    more = {name: site for name, site in latent(longer).items() if name not in model.nodes}
    return _Local(inside | along, along, tuple(name for name, site in more.items() if not plates(site) & over))


def _refuse_fixed(fit: Approximation, fixed: frozenset[str], values: tuple[Any, ...]) -> None:
    """Raises ValueError for another number of rows than plates of a fixed size have: one row would be broadcast."""
    arguments, n = rows_of(fit.data)
    names = argument_names(fit.model, len(fit.data))
    for i in arguments:
        if fixed and i < len(values) and isinstance(values[i], torch.Tensor) and len(values[i]) != n:
            raise ValueError(
                f"{names[i]}: got {len(values[i])} rows, but plate {sorted(fixed)[0]!r} has size {n} whatever the "
                f"data; write its size as the number of rows, pyro.plate({sorted(fixed)[0]!r}, len({names[i]}))"
            )


def _plate_sizes(trace: poutine.Trace) -> dict[str, int]:
    nodes = [site for site in trace.nodes.values() if site["type"] == "sample"]
    return {frame.name: frame.size for site in nodes for frame in site["cond_indep_stack"]}


def _amortised(fit: Approximation, guide: poutine.Trace) -> frozenset[str]:
    """The latents whose distribution in the guide depends on the data of the rows: it changes if the data does.

    Rows are swapped, which leaves data of any kind possible, and then moved, since rows may be equal.
    """
    arguments, _ = rows_of(fit.data)
    swapped = [v.roll(1, 0) if i in arguments else v for i, v in enumerate(fit.data)]
    moved = [1.5 * v + 0.5 if i in arguments and v.is_floating_point() else v for i, v in enumerate(swapped)]
    held = HeldSites({name: site["value"] for name, site in drawn_sites(guide).items()})
    found: set[str] = set()
    for data in (swapped, moved):
        with suppress(Exception):  # of the user's program
            other = poutine.trace(held(fit.guide)).get_trace(*data)
            found |= {name for name, site in latent(guide).items() if _differ(site, other.nodes.get(name))}
    return frozenset(found)


def _differ(one: Site, two: Site | None) -> bool:
    if two is None or one["fn"].shape() != two["fn"].shape():
        return False
    return not torch.equal(one["fn"].log_prob(one["value"]), two["fn"].log_prob(one["value"]))


def _draws(fit: Approximation, values: tuple[Any, ...], name: str) -> bool:
    """Whether the guide can draw the site at these arguments: one that reads y cannot where y is None."""
    try:
        return name in poutine.trace(fit.guide).get_trace(*values).nodes
    except Exception:  # of the user's program
        return False


def _same_rows(fit: Approximation, model: poutine.Trace, values: tuple[Any, ...]) -> bool:
    """Whether the new data has the rows of the fit, or begins with all of them.

    Rows are known by the arguments that are not observed; by those that are where there are no others.
    """
    arguments, n = rows_of(fit.data)
    given = [i for i in arguments if i < len(values) and isinstance(values[i], torch.Tensor)]
    inputs = [i for i in given if not _is_observed(fit.data[i], model)]
    return all(_equal(values[i][:n], fit.data[i]) for i in inputs or given)


def _changed_columns(fit: Approximation, model: poutine.Trace, values: tuple[Any, ...]) -> frozenset[tuple[int, int]]:
    """The widths of inputs that differ from those of the fit: a latent of that width does not fit the new data."""
    pairs = [(old, new) for old, new in zip(fit.data, values, strict=False) if not _is_observed(old, model)]
    shapes = [(old.shape[1:], new.shape[1:]) for old, new in pairs if torch.is_tensor(old) and torch.is_tensor(new)]
    return frozenset(sizes for old, new in shapes for sizes in zip(old, new, strict=False) if sizes[0] != sizes[1])


def _is_observed(value: Any, model: poutine.Trace) -> bool:
    return any(_equal(value, site["value"]) for site in observed(model).values())


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return one.shape == two.shape and torch.equal(one, two.to(one.device, one.dtype))
    return one is two or (type(one) is type(two) and not isinstance(one, torch.Tensor) and bool(one == two))
