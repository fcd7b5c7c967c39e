"""The posterior of the latents of given rows: n draws of 2 rows, where all draws of a million would fill the memory.

    z_r ~ q(z_r | theta),   r in rows,   theta ~ q(theta)

A guide that computes the latents of a row from its data, or reads them from its row of a table, runs on these rows
alone; that it then has the same densities is checked at a draw on all rows. Any other guide runs on all rows, a few
draws at a time, and the others are dropped.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..inputs.call import argument_names
from ..pair.batches import cut, rows_of
from ..pair.tables import on_rows
from ..runtime.held import HeldSites
from ..runtime.probes import nearly_equal
from ..runtime.sites import Site, deterministic, latent, plates, plates_of_rows
from ..runtime.state import reading
from ..runtime.traced import traced
from ..storage.absent import refuse_without_data
from .approximation import Approximation, pair_of
from .row_sites import find_row_sites
from .sample import MOST, Values, beyond_the_guide, draws_of, joint_draws, refuse_none


class GivenRows(NamedTuple):
    """Some rows of the data of a fit."""

    numbers: torch.Tensor  # (R,) their numbers
    labels: tuple[str, ...]  # (R,) as the user's index calls them, else their numbers
    dims: dict[str, int]  # {site: which dimension of its value is that of the rows}
    part: Any  # the fit on these rows alone; None where its guide needs all rows


def given_rows(fit: Approximation, rows: Any, seed: int = 0) -> GivenRows:
    """The rows of a fit that somebody asks for.

    rows: numbers from 0, negative ones from the end, a slice, a mask of booleans, or labels of the index of a table.
    Raises ValueError for data without rows, and for a row that they do not have.
    """
    refuse_without_data(fit.data, "rows")
    arguments, n = _rows_of(fit)
    index, labels = _numbers(fit, rows, n)
    with reading(fit.state, seed), torch.no_grad():
        guide = traced(fit.guide, fit.data)
        model = poutine.trace(poutine.replay(fit.model, trace=guide)).get_trace(*fit.data)
        found = find_row_sites(pair_of(fit), guide, model)
    sites = latent(model) | deterministic(model)
    over = {f.name for name in found.inside - found.along for f in sites[name]["cond_indep_stack"] if f.size == n}
    over |= plates_of_rows(model, n)
    dims = {name: dim for name, site in sites.items() if (dim := _dim(site, over, name in found.along, n)) is not None}
    part: Any = dataclasses.replace(fit, data=cut(fit.data, arguments, index))  # type: ignore[type-var]
    tables = [name for name, p in fit.state.store["params"].items() if p.dim() and len(p) == n]
    if tables:  # as it seems: `_agrees` sees whether they are
        pair = on_rows(pair_of(part), tables, index, {})
        part = dataclasses.replace(part, model=pair.model, guide=pair.guide)
    if fit.followers or hasattr(fit.guide, "joint_draws") or not _agrees(part, guide, model, dims, index, seed):
        part = None
    return GivenRows(index, labels, dims, part)


def sample_rows(fit: Approximation, n: int, rows: Any, *, seed: int = 0) -> Values:
    """n joint draws, as by `sample`, with the latents of these rows alone: {site: shape (n, *shape with R rows)}.

    Finite latents that were summed out and deterministic sites come if they belong to rows, or do not depend on them.
    """
    refuse_none(n)
    return draws_of_rows(fit, n, given_rows(fit, rows, seed), seed)


def draws_of_rows(fit: Approximation, n: int, given: GivenRows, seed: int) -> Values:
    """n draws at rows that have been found."""
    if given.part is not None:
        return draws_of(given.part, n, _of_rows(given.part, given, seed), seed=seed)
    found = beyond_the_guide(fit, seed)
    per = {name: site["value"].numel() for name, site in found.items()}
    wanted = {name for name, size in per.items() if name in given.dims or n * size <= MOST}

    def chosen(values: Values) -> Values:
        return {
            name: v.index_select(given.dims[name], given.numbers.to(v.device)) if name in given.dims else v
            for name, v in values.items()
        }

    with reading(fit.state, seed):
        return joint_draws(fit, n, wanted, chosen)


def _of_rows(part: Approximation, given: GivenRows, seed: int) -> set[str]:
    """The sites beyond the guide that other rows have no part in: in plates over rows."""
    return {name for name in beyond_the_guide(part, seed) if name in given.dims}


def _rows_of(fit: Approximation) -> tuple[tuple[int, ...], int]:
    try:
        return rows_of(fit.data)
    except ValueError:
        raise ValueError("rows: the data of the fit hold no tensor with rows") from None


def _dim(site: Site, over: set[str], along: bool, n: int) -> int | None:
    """The dimension of the rows in the value of a site, negative; None where it has none that can be told."""
    shape = site["value"].shape
    if site["infer"].get("_deterministic") or along:  # whose plates do not tell which dimension is theirs
        found = [d - len(shape) for d, size in enumerate(shape) if size == n]
        return found[0] if len(found) == 1 and (along or plates(site) & over) else None
    dims = [int(f.dim) - site["fn"].event_dim for f in site["cond_indep_stack"] if f.name in over]
    return dims[0] if len(dims) == 1 else None


def _agrees(
    part: Approximation,
    guide: poutine.Trace,
    model: poutine.Trace,
    dims: Mapping[str, int],
    index: torch.Tensor,
    seed: int,
) -> bool:
    """Whether guide and model have the same densities and deterministic sites on some rows as on all.

    part: the fit on these rows. guide, model: traces on all rows.
    """

    def chosen(name: str, value: torch.Tensor, event_dim: int = 0) -> torch.Tensor:
        dim = dims[name] + event_dim if name in dims else 0
        if name not in dims or value.dim() < -dim or value.shape[dim] == 1:
            return value
        return value.index_select(dim, index.to(value.device))

    whole = latent(guide)
    held = {name: chosen(name, site["value"]) for name, site in whole.items()}
    try:
        with reading(part.state, seed), torch.no_grad():
            some_guide = poutine.trace(HeldSites(held)(part.guide)).get_trace(*part.data)
            some_model = poutine.trace(poutine.replay(part.model, trace=some_guide)).get_trace(*part.data)
    except Exception:  # of the user's program, which knows its number of rows
        return False
    some = latent(some_guide)
    if some.keys() != whole.keys():
        return False
    for name, site in whole.items():
        event = site["fn"].event_dim
        one = chosen(name, site["fn"].log_prob(site["value"]), event)
        two = some[name]["fn"].log_prob(some[name]["value"])
        if one.shape != two.shape or not nearly_equal(one, two):
            return False
    some_values = deterministic(some_model)
    return all(
        name in some_values
        and some_values[name]["value"].shape == chosen(name, site["value"]).shape
        and nearly_equal(some_values[name]["value"], chosen(name, site["value"]))
        for name, site in deterministic(model).items()
        if name in dims
    )


def _numbers(fit: Approximation, rows: Any, n: int) -> tuple[torch.Tensor, tuple[str, ...]]:
    """(the numbers of the rows, shape (R,), their labels)."""
    own = next((labels for labels in fit.row_labels if labels is not None and len(labels) == n), None)
    if isinstance(rows, slice):
        index = list(range(n)[rows])
    else:
        given = rows.tolist() if hasattr(rows, "tolist") else rows
        if not isinstance(given, Sequence) or isinstance(given, str):
            given = [given]
        if len(given) and all(isinstance(row, bool) for row in given):
            if len(given) != n:
                raise ValueError(f"rows: got a mask of {len(given)} rows, and the fit has {n}; wanted one for each")
            given = [i for i, row in enumerate(given) if row]
        index = [_number(row, n, own, argument_names(fit.model, len(fit.data))) for row in given]
    if not index:
        raise ValueError(f"rows: got {rows!r}, wanted at least one of the {n} rows")
    names = [str(i) for i in index] if own is None else [str(own[i]) for i in index]
    return torch.tensor(index), tuple(names)


def _number(row: Any, n: int, own: Sequence[Any] | None, names: Sequence[str]) -> int:
    if isinstance(row, int) and not isinstance(row, bool) and -n <= row < n:
        return row % n
    if own is not None and not isinstance(row, int) and row in own:
        return list(own).index(row)
    labels = "" if own is None else f", or labels of the index, such as {own[0]!r}"
    raise ValueError(f"rows: got {row!r}, wanted numbers from 0 to {n - 1} of the rows of {names[0]}{labels}")
