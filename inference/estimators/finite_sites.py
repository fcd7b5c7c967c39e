"""Which finite sites of a guide may be summed over row by row: the rows of a plate must not move each other's costs.

    cost of a row at values (k_1, ..., k_N) = cost of the same row with k_n in all rows

The pair is run with equal values in all rows, one run a combination, then with mixed values; the costs are compared.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..distributions.unwrap import kind, unwrapped
from ..pair.costs import WEIGHT, Costs, Plates, Terms, run
from ..pair.pair import Pair
from ..runtime.probes import PLACES, look_near, nearly_equal, probing
from ..runtime.sites import Site, drawn_sites
from ..runtime.traced import first_line
from ..runtime.vectorise import Differing, each
from .enumerate import grid

MOST = 256  # runs: the product of the sizes of all supports


class FiniteSites(NamedTuple):
    """values: {site that may be summed over: its support, shape (K, *event)}. why_not: {site: why it must not be}.

    tied: sites among the latter for which rows of one plate move each other's costs.
    """

    values: dict[str, torch.Tensor]
    why_not: dict[str, str]
    tied: frozenset[str]


class Cause(NamedTuple):
    """Why some sites cannot be summed over. tied: because rows of one plate move each other's costs."""

    sites: list[str]
    why: str
    tied: bool = False


def finite_sites(pair: Pair, guide: poutine.Trace, names: Iterable[str], vectorised: bool) -> FiniteSites:
    """The sites that may be summed over row by row, and why the others must not be. guide: a trace of the guide."""
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
    tied: set[str] = set()
    while values and (cause := _coupled(pair, guide, values, vectorised)):
        why |= dict.fromkeys(cause.sites, cause.why)
        tied |= set(cause.sites) if cause.tied else set()
        values = {name: v for name, v in values.items() if name not in cause.sites}
    return FiniteSites(values, why, frozenset(tied))


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


def _coupled(pair: Pair, guide: poutine.Trace, values: Mapping[str, torch.Tensor], vectorised: bool) -> Cause | None:
    """Why summing row by row would be wrong, or None. Checked at the parameters and at a place nearby."""
    for off in PLACES:
        try:
            with probing(tuple(pair)):
                cause = look_near(lambda: _coupled_here(pair, guide, values, vectorised), off)
        except Differing:
            return Cause(list(values), "the pair has other sites for some of its values")
        except Exception as error:  # of the user's own code, which may raise anything
            if off:
                continue
            return Cause(list(values), f"the pair cannot be run with all of its values ({first_line(error)})")
        if cause:
            return cause
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
    others = {name: site["value"].detach() for name, site in drawn_sites(guide).items() if name not in values}
    plates: Plates = {}

    def costs_of(one: dict[str, torch.Tensor]) -> Costs:
        found = run(pair, others | one, Terms(unscaled=frozenset(values)))
        plates.update(found.plates)
        return found.costs

    cells = _Cells(values, each(costs_of, grid(values), vectorised), plates)
    return _moved_outside(cells) or _mixed_rows_differ(cells, guide, costs_of)


def _moved_outside(cells: _Cells) -> Cause | None:
    """Why not, by costs outside of a site's plates that its values move, or by probabilities that are not one."""
    for axis, name in enumerate(cells.values):
        probability = cells.costs[WEIGHT, name].exp().unflatten(0, cells.sizes).sum(axis)
        if not torch.allclose(probability, torch.ones_like(probability), rtol=1e-3):
            return Cause([name], "the probabilities of its values do not add up to one")
        for key, cost in cells.costs.items():
            here = cost.unflatten(0, cells.sizes)
            covered = cells.plates[WEIGHT, name] <= cells.plates[key]
            if not covered and not nearly_equal(here, here.narrow(axis, 0, 1).expand_as(here)):
                return Cause([name], f"the density of {key[1]!r} depends on its values in other rows")
    return None


def _mixed_rows_differ(
    cells: _Cells, guide: poutine.Trace, costs_of: Callable[[dict[str, torch.Tensor]], Costs]
) -> Cause | None:
    """Why not, by rows that cost something else when other rows have other values."""
    values, sizes = cells.values, cells.sizes
    strides = dict(zip(values, (math.prod(sizes[i + 1 :]) for i in range(len(sizes))), strict=True))
    sites: dict[str, Site] = {name: guide.nodes[name] for name in values}
    shapes = {name: site["fn"].batch_shape for name, site in sites.items()}
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
                why = f"the density of {key[1]!r} depends on its values in other rows (batch norm?)"
                return Cause(blamed, why, tied=True)
    return None
