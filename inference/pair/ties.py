"""Which dimensions of latents are tied to an axis of the data: found by permuting both, never by their size alone.

    log p(y_n | x', z') = log p(y_n | x, z)  for all rows n      x', z': x and z with the axis and the tie permuted

A latent is tied only if this fails without it. With one or two entries, for which a permutation says too little, the
gradient of the rows in which an entry of the axis is absent (a column of zeros, another category) must be zero at it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..inputs.axes import Axis, Data
from ..runtime.held import HeldSites
from ..runtime.sites import deterministic, latent, observed

Place = tuple[Any, int]  # (site, or the position of an argument; dimension)
FACTOR = -1  # in the place of a dimension: rows and columns of the covariance whose Cholesky factor the site is
Values = Mapping[str, torch.Tensor]
MOST = 60  # sets of places that are tried for an axis
EXACT = 200  # times the rounding of a number, that equal densities may differ by
CLEAR = 10  # times as much, that different ones must
LITTLE = 1e-4  # share of a gradient that counts as none


class Run(NamedTuple):
    """A model with its latents held at one draw."""

    model: Callable[..., Any]
    data: Data
    values: Values

    def at(self, data: Data, values: Values) -> dict[str, torch.Tensor]:
        """{site: log density of each row}, of latents and observed sites; of deterministic sites their values."""
        trace = poutine.trace(HeldSites(values)(self.model)).get_trace(*data)
        densities = {
            name: site["fn"].log_prob(site["value"]).double()
            for name, site in (latent(trace) | observed(trace)).items()
        }
        return densities | {name: site["value"] for name, site in deterministic(trace).items()}

    def permuted(self, axis: Axis, places: Iterable[Place], order: torch.Tensor) -> dict[str, torch.Tensor]:
        """The same with this axis of the data, and these places, in another order."""
        data, values = list(axis.permuted(self.data, order)), dict(self.values)
        for key, dim in places:
            holder: Any = data if isinstance(key, int) else values
            holder[key] = _reordered(holder[key], dim, order.to(holder[key].device))
        return self.at(tuple(data), values)


def _reordered(value: torch.Tensor, dim: int, order: torch.Tensor) -> torch.Tensor:
    if dim != FACTOR:
        return value.index_select(dim, order)
    covariance = value @ value.mT
    return torch.linalg.cholesky(covariance[order][:, order])


def tied(axis: Axis, run: Run) -> frozenset[Place]:
    """The places (site, dimension) whose entry k belongs to label k of the axis; none where this is not certain."""
    k = len(axis.labels)
    trace = poutine.trace(HeldSites(run.values)(run.model)).get_trace(*run.data)
    watched = frozenset(observed(trace))
    before = run.at(run.data, run.values)
    candidates: list[Place] = [(n, d) for n in latent(trace) for d, size in enumerate(run.values[n].shape) if size == k]
    factors = [n for n, v in run.values.items() if v.dim() == 2 and v.is_floating_point() and torch.equal(v, v.tril())]
    candidates += [(n, FACTOR) for n in factors if len(run.values[n]) == k > 1]
    candidates += [
        (i, d)
        for i, value in enumerate(run.data)
        if isinstance(value, torch.Tensor)
        for d, size in enumerate(value.shape)
        if size == k and not axis.owns(i, d, run.data)
    ]
    if not candidates or not watched:
        return frozenset()
    if len(axis.used) == 1:
        return _without_orders(axis, run, watched, candidates)

    def error(sites: frozenset[str], places: Iterable[Place]) -> float:
        return max(farthest(run.permuted(axis, places, order), before, order, sites) for order in axis.orders)

    def holds(sites: frozenset[str], so_far: frozenset[Place], places: Iterable[Place]) -> bool:
        return error(sites, so_far.union(places)) < 1

    if not error(watched, ()) > CLEAR:
        return frozenset()
    found = _fewest(candidates, partial(holds, watched, frozenset()))
    if not found or (len(axis.used) == 2 and not confirmed(axis, run, watched, found)):
        return frozenset()
    while True:  # what the priors of the tied latents depend on is tied as well
        priors = watched | {key for key, _ in found if isinstance(key, str)}
        if holds(priors, found, ()):
            break
        rest = [place for place in candidates if place not in found]
        more = _fewest(rest, partial(holds, priors, found))
        if not more:
            break
        found |= more
    return frozenset((key, max(dim, 0)) for key, dim in found if isinstance(key, str))


def farthest(
    after: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor], order: torch.Tensor, sites: Iterable[str]
) -> float:
    """How far the sites are from what they were, in this order or the one before; 1: as far as rounding brings them."""
    return max(min((e for _, e in moves(after[name], before[name], order)), default=torch.inf) for name in sites)


def moves(new: torch.Tensor, old: torch.Tensor, order: torch.Tensor) -> Iterator[tuple[int | None, float]]:
    """(dimension that was permuted, or None for no one; the difference in units of rounding), each that can be."""
    if new.shape != old.shape or not new.isfinite().all():
        return
    scale = EXACT * torch.finfo(torch.float32).eps * max(1.0, old.abs().max().item() if old.numel() else 1.0)
    yield None, ((new - old).abs().max() / scale).item()
    for dim, size in enumerate(old.shape):
        if size == len(order):
            yield dim, ((new - old.index_select(dim, order.to(old.device))).abs().max() / scale).item()


def _fewest(candidates: Sequence[Place], holds: Callable[[Iterable[Place]], bool]) -> frozenset[Place]:
    """The smallest set of candidates for which this holds; of many candidates not every set is tried."""
    tries = [frozenset(c) for size in (1, 2) for c in combinations(candidates, size)][:MOST]
    for places in tries:
        if holds(places):
            return places
    everything = frozenset(place for place in candidates if place[1] != FACTOR)
    if len(everything) > 2 and holds(everything):
        return _least(everything, holds)
    for places in [frozenset(c) for c in combinations(candidates, 3)][: MOST - len(tries)]:
        if holds(places):
            return places
    return frozenset()


def _least(places: frozenset[Place], holds: Callable[[Iterable[Place]], bool]) -> frozenset[Place]:
    """These places without those that are only tied to one another: rotated factors and their loadings, say."""
    for size in (1, 2, 3):
        for left_out in combinations(sorted(places, key=str), size):
            rest = places.difference(left_out)
            if len(left_out) < len(places) and holds(rest):
                return _least(rest, holds)
    return places


def _without_orders(axis: Axis, run: Run, watched: frozenset[str], candidates: Sequence[Place]) -> frozenset[Place]:
    """The places of an axis with one entry: of each site the only dimension that is confirmed."""
    if axis.kind != "columns" or len(axis.labels) > 1:
        return frozenset()
    sites = {key for key, _ in candidates if isinstance(key, str)}
    alone = {p for p in candidates if p[0] in sites and confirmed(axis, run, watched, frozenset({p}))}
    return frozenset(p for p in alone if sum(other[0] == p[0] for other in alone) == 1)


def confirmed(axis: Axis, run: Run, watched: frozenset[str], places: frozenset[Place]) -> bool:
    """Whether entry k of the axis and entry k of each place act together, and not the others; False if this is unclear.

    Rows without entry k of an input have no gradient at k. Another value of outcome k moves the gradient at k alone.
    """
    own = [(key, dim) for key, dim in places if isinstance(key, str)]
    names = [key for key, _ in own]
    if any(not run.values[name].is_floating_point() for name in names):
        return False
    rows = len(run.data[axis.where[0][0]])
    everyone = torch.arange(rows)
    whole = _slopes(run, run.data, everyone, watched, names, rows)
    outcome = _is_outcome(axis, run)
    if outcome and axis.kind == "codes":  # the classes of a softmax, where the gradient says nothing
        return False
    for k in axis.used:
        alone = False
        for data, chosen in _moved(axis, run.data, k) if outcome else _absences(axis, run.data, k, rows):
            slopes = _slopes(run, data, chosen, watched, names, rows)
            alone |= all(_only(k, axis.used, dim, slopes[name], whole[name], outcome) for name, dim in own)
        if not alone:
            return False
    return True


def _only(k: int, used: Sequence[int], dim: int, slope: torch.Tensor, whole: torch.Tensor, outcome: bool) -> bool:
    """Whether entry k alone of those used has no gradient; of an outcome, whether it alone has another one."""
    sizes = (slope - whole if outcome else slope).abs().movedim(dim, 0).reshape(slope.shape[dim], -1).amax(
        1
    ) / whole.abs().max()
    here, others = sizes[k], sizes[[other for other in used if other != k]]
    if outcome:
        return bool(here > LITTLE and (others < LITTLE).all())
    return bool(whole.select(dim, k).abs().max() > 0 and here < LITTLE and (others > LITTLE).all())


def _is_outcome(axis: Axis, run: Run) -> bool:
    """Whether the model observes what the axis belongs to."""
    other = list(run.data)
    for i, column in axis.where:
        other[i] = other[i].clone()
        part = other[i] if column is None else other[i][:, column]
        part.copy_(part.roll(1, 0) if axis.kind == "codes" else part + 1)
    held = HeldSites(run.values)(run.model)
    before, after = (observed(poutine.trace(held).get_trace(*data)) for data in (run.data, other))
    return any(not torch.equal(before[name]["value"], after[name]["value"]) for name in before)


def _moved(axis: Axis, data: Data, k: int) -> Iterator[tuple[Data, torch.Tensor]]:
    """(data, rows) with other values of column k, which occur in it: its first one."""
    values = list(data)
    for i, _ in axis.where:
        values[i] = data[i].clone()
        values[i][:, k] = data[i][0, k]
    yield tuple(values), torch.arange(len(data[axis.where[0][0]]))


def _absences(axis: Axis, data: Data, k: int, rows: int) -> Iterator[tuple[Data, torch.Tensor]]:
    """(data, rows) in which entry k of the axis says nothing."""
    if axis.kind == "codes":
        codes = [data[i] if column is None else data[i][:, column] for i, column in axis.where]
        absent = torch.stack([c != k for c in codes if c.dim() == 1], -1).all(-1).nonzero().flatten()
        if len(absent):
            yield data, absent
        return
    few = torch.arange(max(1, rows // 4))
    for centre in (False, True):  # a column of zeros; one at its mean, where the model standardises it
        values = list(data)
        for i, _ in axis.where:
            matrix = data[i].clone()
            matrix[few, k] = matrix[len(few) :, k].mean() if centre and len(few) < rows else 0.0
            values[i] = matrix
        yield tuple(values), few


def _slopes(
    run: Run, data: Data, chosen: torch.Tensor, watched: frozenset[str], names: Sequence[str], rows: int
) -> dict[str, torch.Tensor]:
    """{site: gradient of the log density of the chosen rows}; NaN where the densities do not come in rows."""
    values = {n: v.detach().clone().requires_grad_(n in names) for n, v in run.values.items()}
    with torch.enable_grad():
        densities = run.at(data, values)
        total = torch.zeros((), dtype=torch.float64)
        for name in watched:
            dims = [d for d, size in enumerate(densities[name].shape) if size == rows]
            if not dims:
                return {n: torch.full_like(values[n], torch.nan) for n in names}
            total = total + densities[name].index_select(dims[0], chosen.to(densities[name].device)).sum().cpu()
        slopes = torch.autograd.grad(total, [values[n] for n in names], allow_unused=True)
    return {n: torch.zeros_like(values[n]) if s is None else s for n, s in zip(names, slopes, strict=True)}
