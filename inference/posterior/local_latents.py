"""Where a prediction takes each latent from: the rows of the fit, a guide run on the new rows, or the model.

    p(y* | x*, data) = int p(y* | x*, z*, theta) p(z* | x*, theta) q(theta),   z* the latents of the new rows

Latents theta that all rows share come from the guide. A latent of a row (one in a plate over the rows, or with an entry
for each row) belongs to that row: other rows have others. They are drawn anew, by the guide where it computes them from
the data of the rows (amortised), else from the model given theta.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..distributions.unwrap import kind
from ..pair.batches import rows_of
from ..pair.pair import Pair
from ..runtime.anew import Anew
from ..runtime.held import HeldSites
from ..runtime.sites import Site, drawn_sites, latent, observed
from .continued import ContinuedSites
from .joint_rows import JointRows, continues, stacked
from .row_sites import RowSites, find_row_sites, is_joint, refuse_fixed


class Sources(NamedTuple):
    """Where a prediction takes each latent from; the model draws those in neither set."""

    arguments: tuple[Any, ...]  # at which the model runs: the new rows, after those of the fit if `joint` needs them
    kept: frozenset[str] = frozenset()  # from the guide at the rows of the fit
    computed: frozenset[str] = frozenset()  # from the guide at the new rows
    along: frozenset[str] = frozenset()  # latents whose event has an entry for each row
    columns: frozenset[tuple[int, int]] = frozenset()  # widths of data that changed, as (in the fit, now)
    first: Mapping[str, torch.Tensor] = {}  # joint normal sites, whose new rows are drawn given these of the fit
    rows: int = 0  # of the fit, before the new ones in `arguments`

    @property
    def total(self) -> int:
        """How many rows the model runs on, where the rows of the fit come before the new ones."""
        return max(len(v) for v in self.arguments if isinstance(v, torch.Tensor) and v.dim() > 0)


def sources(pair: Pair, values: tuple[Any, ...]) -> Sources:
    """Where the latents of a prediction at these arguments come from. It is called while the fit is read.

    pair: on the data of the fit. Raises ValueError for a site of the rows of the fit that other rows cannot have.
    """
    guide = poutine.trace(pair.guide).get_trace(*pair.data)
    model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data)
    names = frozenset(latent(guide))
    changed = any(new is not None and not _equal(new, old) for new, old in zip(values, pair.data, strict=False))
    changed = changed or len(values) > len(pair.data)
    if not (changed or any(is_joint(site) for site in observed(model).values())):
        return Sources(values, names)
    if not any(isinstance(v, torch.Tensor) and v.dim() > 0 for v in pair.data):
        return Sources(values, names)
    found = find_row_sites(pair, guide, model)
    refuse_fixed(pair, found.fixed, values)
    same = not changed or _same_rows(pair, model, values)
    if joint := found.joint - (names if same else frozenset()):
        return _given_the_fit(pair, (guide, model), found, joint, values)
    if same and found.joint and _is_longer(pair, values):
        _refuse_no_process(pair, (guide, model), found.joint & names, Sources(values, along=found.along))
    computed = frozenset(name for name in _amortised(pair, guide) & found.inside if _draws(pair, values, name))
    if found.by_name and not same:
        raise ValueError(
            f"site {found.by_name[0]!r}: a site of a row by its name, so that rows other than those of the fit have no "
            f"draw of their own; begin the new data with all rows of the fit, or put what belongs to a row into a "
            f"plate, pyro.plate('N', len(x))"
        )
    kept = names - computed if same else names - found.inside
    return Sources(values, kept, computed, found.along, _changed_columns(pair, model, values))


def _given_the_fit(
    pair: Pair, traces: tuple[poutine.Trace, poutine.Trace], found: RowSites, joint: frozenset[str], values: tuple
) -> Sources:
    """The sources of a prediction whose joint sites are drawn given the rows of the fit. traces: of guide and model.

    Where no rows are given, they are the rows of the fit once more, with new noise. Raises ValueError for sites that
    are not joint normal, or not the same with further rows behind.
    """
    guide, model = traces
    arguments, n = rows_of(pair.data)
    inputs = [i for i in arguments if not _is_observed(pair.data[i], model)]
    again = not any(isinstance(v, torch.Tensor) for i, v in enumerate(values) if i in inputs)
    new = tuple(pair.data[i] if again and i in inputs else v for i, v in enumerate(values))
    both = stacked(pair.data, new)
    first: dict[str, Any] = {name: model.nodes[name]["value"] for name in joint}
    result = Sources(both, frozenset(latent(guide)), along=found.along, first=first, rows=n)
    why = "" if inputs else "the model has no argument that tells one row from another"
    _refuse_no_process(pair, traces, joint, result, why)
    return result


def _refuse_no_process(
    pair: Pair, traces: tuple[poutine.Trace, poutine.Trace], joint: frozenset[str], found: Sources, why: str = ""
) -> None:
    """Raises ValueError for joint sites that are no normal, or not the same with further rows behind those of the fit.

    found: with all rows as arguments, those of the fit first. why: they are refused in any case.
    """
    guide, model = traces
    if not why:
        first: dict[str, Any] = {name: model.nodes[name]["value"] for name in joint}
        try:
            held = {name: site["value"] for name, site in latent(guide).items() if name not in joint}
            with ContinuedSites(held, found), JointRows(first):
                longer = poutine.trace(Anew()(pair.model)).get_trace(*found.arguments)
        except Exception as error:  # of the user's program
            why = f"the model does not run on the rows of the fit and the new ones together ({error})".split("\n")[0]
        else:
            if not all(continues(model.nodes[name], longer.nodes[name]) for name in joint):
                why = "it is no normal distribution that further rows leave as it is"
    if why:
        name = sorted(joint)[0]
        raise ValueError(
            f"site {name!r}: one joint draw of all rows ({kind(model.nodes[name]['fn'])}), and {why}, so that new rows "
            f"cannot be drawn given the rows of the fit; make it a MultivariateNormal that the model computes from "
            f"an argument with a row for each entry, or draw by hand from fit.sample(n)"
        )


def _is_longer(pair: Pair, values: tuple[Any, ...]) -> bool:
    """Whether an argument has more rows than in the fit."""
    arguments, n = rows_of(pair.data)
    return any(isinstance(v, torch.Tensor) and len(v) > n for i, v in enumerate(values) if i in arguments)


def _amortised(pair: Pair, guide: poutine.Trace) -> frozenset[str]:
    """The latents whose distribution in the guide depends on the data of the rows: it changes if the data does.

    Rows are swapped, which leaves data of any kind possible, and then moved, since rows may be equal. A guide that has
    `joint_draws`, as that of a closed form, does not read the data.
    """
    if hasattr(pair.guide, "joint_draws"):
        return frozenset()
    arguments, _ = rows_of(pair.data)
    swapped = [v.roll(1, 0) if i in arguments else v for i, v in enumerate(pair.data)]
    moved = [1.5 * v + 0.5 if i in arguments and v.is_floating_point() else v for i, v in enumerate(swapped)]
    held = HeldSites({name: site["value"] for name, site in drawn_sites(guide).items()})
    found: set[str] = set()
    for data in (swapped, moved):
        with suppress(Exception):  # of the user's program
            other = poutine.trace(held(pair.guide)).get_trace(*data)
            found |= {name for name, site in latent(guide).items() if _differ(site, other.nodes.get(name))}
    return frozenset(found)


def _differ(one: Site, two: Site | None) -> bool:
    if two is None or one["fn"].shape() != two["fn"].shape():
        return False
    return not torch.equal(one["fn"].log_prob(one["value"]), two["fn"].log_prob(one["value"]))


def _draws(pair: Pair, values: tuple[Any, ...], name: str) -> bool:
    """Whether the guide can draw the site at these arguments: one that reads y cannot where y is None."""
    try:
        return name in poutine.trace(pair.guide).get_trace(*values).nodes
    except Exception:  # of the user's program
        return False


def _same_rows(pair: Pair, model: poutine.Trace, values: tuple[Any, ...]) -> bool:
    """Whether the new data has the rows of the fit, or begins with all of them.

    Rows are known by the arguments that are not observed; by those that are where there are no others.
    """
    arguments, n = rows_of(pair.data)
    given = [i for i in arguments if i < len(values) and isinstance(values[i], torch.Tensor)]
    inputs = [i for i in given if not _is_observed(pair.data[i], model)]
    return all(_equal(values[i][:n], pair.data[i]) for i in inputs or given)


def _changed_columns(pair: Pair, model: poutine.Trace, values: tuple[Any, ...]) -> frozenset[tuple[int, int]]:
    """The widths of inputs that differ from those of the fit: a latent of that width does not fit the new data."""
    pairs = [(old, new) for old, new in zip(pair.data, values, strict=False) if not _is_observed(old, model)]
    shapes = [(old.shape[1:], new.shape[1:]) for old, new in pairs if torch.is_tensor(old) and torch.is_tensor(new)]
    return frozenset(sizes for old, new in shapes for sizes in zip(old, new, strict=False) if sizes[0] != sizes[1])


def _is_observed(value: Any, model: poutine.Trace) -> bool:
    """Whether the values of an argument are those of an observed site, in any order: it may be transposed."""
    if not isinstance(value, torch.Tensor):
        return False
    seen = [site["value"] for site in observed(model).values() if isinstance(site["value"], torch.Tensor)]
    return any(_equal(value.flatten().sort()[0], v.flatten().sort()[0]) for v in seen if v.numel() == value.numel())


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return one.shape == two.shape and torch.equal(one, two.to(one.device, one.dtype))
    return one is two or (type(one) is type(two) and not isinstance(one, torch.Tensor) and bool(one == two))
