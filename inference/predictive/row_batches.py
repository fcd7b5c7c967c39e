"""Whether the rows of a prediction can be drawn batch by batch, and which sites have rows.

The model runs on k rows, and on the same rows with one more before or behind them. At the same latents, each row must
keep its density and its deterministic values; a site has rows where its value grows by one.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from ..distributions.unwrap import unwrapped
from ..pair.batches import rows_of
from ..pair.pair import Pair
from ..posterior.continued import ContinuedSites
from ..posterior.local_latents import Sources
from ..posterior.prediction import kept_latents
from ..posterior.row_sites import RowSites, find_row_sites
from ..preflight.rows import refuse_shared
from ..runtime.anew import Anew
from ..runtime.held import HeldSites
from ..runtime.probes import nearly_equal
from ..runtime.sites import Site, deterministic, exists_for_some, is_index, latent
from ..runtime.traced import first_line

REMEDY = "so batches would differ from all rows at once; leave out batch="


class RowBatches(NamedTuple):
    """How a prediction is cut into batches of rows."""

    arguments: tuple[int, ...]  # the positions of the arguments that are cut
    slices: tuple[slice, ...]  # the rows of each batch
    n: int = 0  # rows in all
    dims: Mapping[str, int] = {}  # {site: the dimension of its value that holds the rows}
    shared: frozenset[str] = frozenset()  # latents of all rows that the model draws, or continues
    inside: frozenset[str] = frozenset()  # latents of the guide that belong to the rows of the fit


def find_batches(pair: Pair, values: tuple[Any, ...], found: Sources, size: int, names: list[str]) -> RowBatches:
    """The batches of `size` rows of a prediction at these values. pair: on the data of the fit. names: of arguments.

    Raises ValueError for rows that depend on each other, for sites that exist for some batches only, and for arguments
    with different numbers of rows.
    """
    arguments, n = _arguments(pair, values, names)
    if size >= n:
        return one_batch(pair, values, found, names)
    own = _row_sites(pair) if found.kept else RowSites()
    for name in sorted(found.first.keys() | (own.joint & found.kept)):
        raise ValueError(f"site {name!r}: one joint draw of all rows, {REMEDY}")
    found = found._replace(along=own.along)
    kept = {name: value for name, value in kept_latents(pair, found).items() if name not in own.inside}
    rows = list(range(size))
    traces = [_run(pair, cut(values, arguments, rows), found, kept, size, n)]
    dims: dict[str, int] = {}
    for at, index in ((1, [size, *rows]), (0, [*rows, size])):
        grown = _Grown({name: site["value"] for name, site in traces[0].items()}, at)
        more = _run(pair, cut(values, arguments, index), found, kept, size + 1, n, grown)
        dims = _compared(traces[0], more, size, at, kept.keys())
        traces.append(more)
    if pair.summed is not None:
        frames = [{f.name: f.size for s in t.values() for f in s["cond_indep_stack"]} for t in traces[:2]]
        over = frozenset(name for name, length in frames[0].items() if frames[1].get(name) != length)
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
        refuse_shared(pair.model, guide, pair.data, pair.summed, over, "rows cannot be drawn apart; leave out batch=")
    shared = {name for name, site in traces[0].items() if name not in dims and _is_drawn(site, kept.get(name))}
    slices = tuple(slice(begin, min(begin + size, n)) for begin in range(0, n, size))
    return RowBatches(arguments, slices, n, dims, frozenset(shared), own.inside & found.kept)


def one_batch(pair: Pair, values: tuple[Any, ...], found: Sources, names: list[str]) -> RowBatches:
    """All rows at once, with the dimensions of the rows, where a run with one more row shows them; see `find_batches`.

    The last row is repeated. Sites have no such dimension where the model does not run so.
    """
    try:
        arguments, n = _arguments(pair, values, names)
    except ValueError:  # no argument has rows
        return RowBatches((), (slice(0, 0),))
    whole = RowBatches(arguments, (slice(0, n),), n)
    if found.first or n == 0:
        return whole
    try:
        own = _row_sites(pair) if found.kept else RowSites()
        found = found._replace(along=own.along)
        kept = {name: value for name, value in kept_latents(pair, found).items() if name not in own.inside}
        one, more = (
            _run(pair, cut(values, arguments, index), found, kept, len(index), n)
            for index in ([*range(n)], [*range(n), n - 1])
        )
    except Exception:  # of the user's program
        return whole
    sites = {name: _rows_dim(site["value"], more[name]["value"]) for name, site in one.items() if name in more}
    return whole._replace(dims={name: dim for name, dim in sites.items() if dim is not None})


def _row_sites(pair: Pair) -> RowSites:
    guide = poutine.trace(pair.guide).get_trace(*pair.data)
    return find_row_sites(pair, guide, poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data))


def cut(values: tuple[Any, ...], arguments: tuple[int, ...], rows: Any) -> tuple[Any, ...]:
    """The values with some rows of the arguments that have rows."""
    return tuple(v[rows] if i in arguments and isinstance(v, torch.Tensor) else v for i, v in enumerate(values))


def cut_latent(value: torch.Tensor, n: int, rows: slice) -> torch.Tensor | None:
    """The rows of a latent that has an entry for each of n rows; None if there are none left.

    Raises ValueError where it is not clear which dimension holds the rows.
    """
    dims = [d for d, size in enumerate(value.shape) if size == n]
    if len(dims) != 1:
        raise ValueError(
            f"batch: a latent of the rows has shape {tuple(value.shape)}, in which the dimension of the {n} rows is "
            f"not clear; leave out batch="
        )
    begin, end = min(rows.start, n), min(rows.stop, n)
    return value.narrow(dims[0], begin, end - begin) if end > begin else None


def _arguments(pair: Pair, values: tuple[Any, ...], names: list[str]) -> tuple[tuple[int, ...], int]:
    """(the positions of the arguments with rows, the number of rows), as the fit's data has them."""
    tensors = [i for i, v in enumerate(values) if isinstance(v, torch.Tensor) and v.dim() > 0]
    with_rows = rows_of(pair.data)[0] if any(isinstance(v, torch.Tensor) and v.dim() for v in pair.data) else ()
    found = [i for i in with_rows if i in tensors]
    if not found:
        raise ValueError("batch: no argument of the prediction has rows, as one of the fit has; leave out batch=")
    lengths = {names[i]: len(values[i]) for i in found}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"batch: the arguments have different numbers of rows ({shown}); give each the same rows")
    n = len(values[found[0]])
    news = [i for i in tensors if i not in found and len(values[i]) == n]
    added = [i for i in news if i >= len(pair.data) or not isinstance(pair.data[i], torch.Tensor)]
    return tuple(sorted(found + added)), n


def _run(
    pair: Pair,
    values: tuple[Any, ...],
    found: Sources,
    kept: Mapping[str, torch.Tensor],
    size: int,
    n: int,
    grown: "_Grown | None" = None,
) -> dict[str, Site]:
    """The sites of one prediction on some of the rows, those of the guide first."""
    held: dict[str, Any] = dict(kept)
    sites: dict[str, Site] = {}
    try:
        if found.computed:
            with grown or _Grown({}, 0):
                guide = poutine.trace(HeldSites(held)(pair.guide)).get_trace(*values)
            computed = {name: site for name, site in guide.nodes.items() if name in found.computed}
            sites = {f"{name} of the guide": site for name, site in computed.items()}
            held |= {name: site["value"] for name, site in computed.items()}
        with ContinuedSites(held, found), grown or _Grown({}, 0):
            model = poutine.trace(Anew()(pair.model)).get_trace(*values)
    except (RuntimeError, IndexError, ValueError) as error:
        if str(error).startswith("site '"):  # an error of credo's
            raise
        raise ValueError(
            f"batch: the model does not run on {size} of the {n} rows ({first_line(error)}): pass what it holds with "
            f"an entry for each row as an argument, or leave out batch="
        ) from error
    return sites | {name: site for name, site in (latent(model) | deterministic(model)).items() if not is_index(site)}


class _Grown(Messenger):
    """Gives sites the values of a run with one row fewer. at: 1 if the first row is the new one, 0 if the last is."""

    def __init__(self, before: Mapping[str, torch.Tensor], at: int) -> None:
        super().__init__()
        self.before, self.at = before, at

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["name"] not in self.before:
            return
        value, before = msg["value"], self.before[msg["name"]]
        if value.shape == before.shape:
            msg["value"] = before
        elif (dim := _rows_dim(before, value)) is not None:
            at = 0 if self.at else before.shape[dim]
            own = value.narrow(dim, at, 1)
            msg["value"] = torch.cat([own, before] if self.at else [before, own], dim)


def _rows_dim(value: torch.Tensor, more: torch.Tensor) -> int | None:
    """The only dimension that has grown by one; None if there is none, or several."""
    if value.dim() != more.dim():
        return None
    dims = [d for d, (one, two) in enumerate(zip(value.shape, more.shape, strict=True)) if one != two]
    return dims[0] if len(dims) == 1 and more.shape[dims[0]] == value.shape[dims[0]] + 1 else None


def _compared(one: dict[str, Site], more: dict[str, Site], size: int, at: int, held: Any) -> dict[str, int]:
    """{site: the dimension of its rows}, after a comparison of the rows that both runs have."""
    for name in one.keys() ^ more.keys():
        raise ValueError(
            f"{exists_for_some(name, 'batches')}, {REMEDY}, or write the rows as a plate, pyro.plate('N', len(x))"
        )
    dims: dict[str, int] = {}
    for name, site in one.items():
        value, grown = site["value"], more[name]["value"]
        dim = _rows_dim(value, grown)
        if dim is not None:
            dims[name] = dim
        elif value.shape != grown.shape:
            raise ValueError(
                f"site {name!r}: it has shape {tuple(value.shape)} for {size} rows and {tuple(grown.shape)} for "
                f"{size + 1}, {REMEDY}"
            )
        if name in held:
            continue
        a, b = (value, grown) if site["infer"].get("_deterministic") else (_density(site), _density(more[name]))
        if dim is not None:
            if a.dim() <= dim or a.shape[dim] != size or b.shape[dim] != size + 1:
                raise ValueError(f"site {name!r}: one joint draw of all rows, {REMEDY}")
            b = b.narrow(dim, at, size)
        if a.shape != b.shape or not nearly_equal(a, b):
            what = "a row depends on the other rows" if dim is not None else "it depends on which rows are given"
            raise ValueError(f"site {name!r}: {what}, {REMEDY}, or prepare the data beforehand (x - x.mean())")
    return dims


def _density(site: Site) -> torch.Tensor:
    """The log density of a site, entry by entry where they are independent."""
    density: torch.Tensor = unwrapped(site["fn"]).log_prob(site["value"])
    return density


def _is_drawn(site: Site, kept: torch.Tensor | None) -> bool:
    """Whether the model draws a site, or some entries of it."""
    return not site["infer"].get("_deterministic") and (kept is None or kept.shape != site["value"].shape)
