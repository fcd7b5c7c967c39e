"""The dimensions of each site and their coordinates: columns, categories and index of the data that the user gave."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..inputs.axes import Axis, axes_of
from ..inputs.call import argument_names
from ..pair.one_code import grown
from ..pair.ties import Place, Run, moves, tied
from ..runtime.held import HeldSites
from ..runtime.sites import Site, deterministic, latent, observed
from ..runtime.state import reading
from .approximation import Drawn

Coords = dict[str, list[Any]]  # {dimension: its labels}
SEEDS = (1, 2)  # of the draws at which ties are looked for


class _Dimension(NamedTuple):
    """A dimension of a site: the plate that it belongs to, if any, and the axis that labels it, if any."""

    plate: str | None
    axis: Axis | None


def dims_and_coords(approximation: Drawn) -> tuple[dict[str, list[str]], Coords]:
    """({site: the names of its dimensions}, {dimension: the labels of its entries}), as ArviZ and xarray want them.

    Sites are the latents, the deterministic and the observed ones. A dimension in a plate is called as the plate; one
    that belongs to the columns of a table, to the categories of a column or to the rows of an index is called as these
    ("x_column", "county", "row"); others as in ArviZ, "b_dim_0". Only dimensions with labels have coordinates. A latent
    gets labels only where a permutation of the data and the latent shows that they belong together (`pair/ties.py`),
    or where it is in a plate with the observations of these rows.

    >>> from credo.inference.posterior.coords import dims_and_coords
    >>> import credo, pandas, pyro, pyro.distributions as dist, torch
    >>> def model(x, y=None):
    ...     b = pyro.sample("b", dist.Normal(0.0, torch.ones(x.shape[1])).to_event(1))
    ...     with pyro.plate("N", len(x)):
    ...         pyro.sample("y", dist.Normal(x @ b, 1.0), obs=y)
    >>> table = pandas.DataFrame({"bmi": [1.0, 2.0, 0.5], "bp": [3.0, 1.0, 2.0], "y": [1.0, 2.0, 0.0]})
    >>> dims_and_coords(credo.fit(model, None, table, progress=False))
    ({'b': ['x_column'], 'y': ['N']}, {'x_column': ['bmi', 'bp']})
    """
    dimensions = _dimensions(approximation)
    plates: dict[Axis | None, str] = {
        d.axis: d.plate for each in dimensions.values() for d in each if d.axis and d.plate
    }
    names: dict[_Dimension, str] = {}
    taken = set(dimensions)
    for dimension in dict.fromkeys(d for each in dimensions.values() for d in each if d.plate or d.axis):
        shared = _Dimension(dimension.plate or plates.get(dimension.axis), dimension.axis)
        name = names[shared] if shared in names else _free(shared, taken)
        names[shared] = names[dimension] = name
        taken.add(name)
    coords = {names[d]: _plain(d.axis.labels) for d in names if d.axis is not None}
    dims: dict[str, list[str]] = {}
    for site, each in dimensions.items():
        dims[site] = []
        for i, dimension in enumerate(each):
            name = names.get(dimension, f"{site}_dim_{i}")
            if name in dims[site]:  # as of a matrix of coefficients by coefficients
                name, again = f"{name}_again", name
                coords |= {name: coords[again]} if again in coords else {}
            dims[site].append(name)
    return dims, coords


def labels_of(approximation: Drawn) -> dict[str, list[list[str] | None]]:
    """{site: for each of its dimensions the labels of its entries as text, None where they have none}.

    For the names of rows in tables and plots, e.g. by `distributions.summaries.scalars`. None for all sites if the
    model does not run: a table with numbers is better than none.
    """
    if not _axes(approximation):
        return {}
    try:
        dimensions = _dimensions(approximation)
    except Exception:  # of the user's program
        return {}
    return {
        site: [None if d.axis is None else [str(label) for label in d.axis.labels] for d in each]
        for site, each in dimensions.items()
    }


def _dimensions(fit: Drawn) -> dict[str, list[_Dimension]]:
    """{site: its dimensions}."""
    with reading(fit.state, SEEDS[0]), torch.no_grad():
        sites, _ = _traced(fit, SEEDS[0])
    places: dict[Place, Axis | None] = {}
    sizes = {name: tuple(site["value"].shape) for name, site in sites.items()}
    plates = {name: _plates(site) for name, site in sites.items()}
    for axis in _axes(fit):
        for place in _labelled(fit, axis, plates, sizes):
            if place in places and axis.kind == "rows":
                continue  # a category that is the index of a row is surer than the order of the rows
            places[place] = None if place in places else axis
    return {
        name: [_Dimension(plates[name].get(i), places.get((name, i))) for i in range(len(size))]
        for name, size in sizes.items()
    }


def _axes(fit: Drawn) -> list[Axis]:
    names = argument_names(fit.model, len(fit.data))
    return axes_of(names, fit.data, fit.columns, fit.codes, fit.row_labels)


def _traced(fit: Drawn, seed: int) -> tuple[dict[str, Site], Run]:
    """The sites of the model at one draw of the fit, and the run that holds its latents there."""
    drawn = {name: value[0] for name, value in fit.sample(1, seed=seed).items()}
    trace = poutine.trace(HeldSites(drawn)(fit.model)).get_trace(*fit.data)
    sites = latent(trace)
    values = {name: site["value"].detach() for name, site in sites.items()}
    return sites | deterministic(trace) | observed(trace), Run(fit.model, fit.data, values)


def _plates(site: Site) -> dict[int, str]:
    """{dimension of the value of a site: the plate that it belongs to}."""
    shape, found = site["value"].shape, {}
    free = bool(site["infer"].get("_deterministic"))  # its fn takes all dimensions for its event
    event = 0 if free else len(site["fn"].event_shape)
    for frame in site["cond_indep_stack"]:
        at = [] if frame.dim is None else [len(shape) - event + frame.dim]
        at = [i for i, size in enumerate(shape) if size == frame.size] if free else at
        if len(at) == 1 and 0 <= at[0] < len(shape) and shape[at[0]] == frame.size:
            found[at[0]] = frame.name
    return found


def _labelled(
    fit: Drawn, axis: Axis, plates: Mapping[str, dict[int, str]], sizes: Mapping[str, Sequence[int]]
) -> list[Place]:
    """The places of the sites that this axis labels."""
    found: set[Place] = set()
    for seed in SEEDS:
        try:
            with reading(fit.state, seed), torch.no_grad():
                _, run = _traced(fit, seed)
                found = {*(tied(axis, run) or grown(axis, run))}
                over = _over(axis, plates, sizes, found, run)
                found |= {(n, d) for n, own in plates.items() for d, plate in own.items() if plate in over}
                found |= _moved(axis, run, found, sizes)
        except Exception:  # of the user's program, which does not take the data in this order
            found = set()
        if found:
            break
    return sorted((place for place in found if sizes[place[0]][place[1]] == len(axis.labels)), key=str)


def _over(
    axis: Axis,
    plates: Mapping[str, dict[int, str]],
    sizes: Mapping[str, Sequence[int]],
    found: set[Place],
    run: Run,
) -> set[str]:
    """The plates whose entries are those of the axis: of tied latents alone, or of observations in its rows."""
    values = _observations(run, run.data)
    if axis.kind != "rows":
        held = {plate for name in values for plate in plates[name].values()}  # whose entries are rows of the data
        return {plates[name][dim] for name, dim in found if dim in plates.get(name, {})} - held
    over: set[str] = set()
    for order in axis.orders:
        after = _observations(run, axis.permuted(run.data, order))
        for name, value in values.items():
            dims = [d for d, error in moves(after[name], value, order) if error == 0]
            if None not in dims:
                over |= {plates[name][d] for d in dims if d in plates[name]}
    return over


def _observations(run: Run, data: tuple[Any, ...]) -> dict[str, torch.Tensor]:
    trace = poutine.trace(HeldSites(run.values)(run.model)).get_trace(*data)
    return {name: site["value"].double() for name, site in observed(trace).items()}


def _moved(axis: Axis, run: Run, places: set[Place], sizes: Mapping[str, Sequence[int]]) -> set[Place]:
    """The dimensions of deterministic and observed values that are permuted with the axis and what is tied to it."""
    latents = [(name, dim) for name, dim in places if name in run.values]
    now = run.at(run.data, run.values) | _observations(run, run.data)
    named: set[Place] | None = None
    for order in axis.orders:
        then = run.permuted(axis, latents, order) | _observations(run, axis.permuted(run.data, order))
        found: set[Place] = set()
        for name in now.keys() - run.values.keys():
            if tuple(now[name].shape) == tuple(sizes[name]):
                dims = [d for d, error in moves(then[name], now[name], order) if error < 1]
                found |= {(name, d) for d in dims if d is not None and len(dims) == 1}
        named = found if named is None else named & found
    if len(axis.used) == 2 and axis.kind != "rows":  # which a swap does not tell from the other way round
        return {place for place in named or set() if _follows(axis, run, latents, now, place)}
    return named or set()


def _follows(axis: Axis, run: Run, latents: Sequence[Place], now: Mapping[str, torch.Tensor], place: Place) -> bool:
    """Whether the first of two used entries of a value changes, and no other one, with the first entries of latents.

    Of an observation, with the first column of the data.
    """
    first, second = axis.used
    values, both = dict(run.values), torch.arange(len(axis.labels))
    both[first] = second
    for name, dim in latents:
        values[name] = values[name].index_select(dim, both.to(values[name].device))
    name, dim = place
    data = axis.permuted(run.data, both) if axis.kind == "columns" else run.data
    then = (run.at(run.data, values) | _observations(run, data))[name]
    changed = [i for i in range(len(both)) if not torch.equal(then.select(dim, i), now[name].select(dim, i))]
    return changed == [first]


def _free(dimension: _Dimension, taken: set[str]) -> str:
    """A name of a dimension that no site and no other dimension has."""
    first = dimension.plate or (dimension.axis.name if dimension.axis is not None else "")
    names = [first, f"{first}_dim", *(f"{first}_dim_{i}" for i in range(len(taken) + 1))]
    return next(name for name in names if name not in taken)


def _plain(labels: Sequence[Any]) -> list[Any]:
    """Labels of one type, as coordinates: numbers stay numbers, all others are text."""
    whole = all(isinstance(label, int) and not isinstance(label, bool) for label in labels)
    return list(labels) if whole else [str(label) for label in labels]
