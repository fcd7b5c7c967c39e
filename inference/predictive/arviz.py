"""A fit as ArviZ takes it: draws of the posterior and the prior, predictions, log likelihoods, data.

    posterior, prior                          (chain, draw, *dimensions of the site)
    posterior_predictive, prior_predictive    (chain, draw, *dimensions of the observed site)
    log_likelihood                            (chain, draw, *plates of the observed site), nats: rows for `arviz.loo`
    sample_stats                              lp = log p(data, z), log_q = log q(z), nats (chain, draw)
    observed_data, constant_data              observations; the other arguments of the model that are numbers

The schema is that of ArviZ (Kumar, Carroll, Hartikainen and Martin 2019). ArviZ 0.x gets an InferenceData, 1.x a
DataTree of xarray.
"""

import difflib
import importlib
import warnings
from collections.abc import Collection, Iterable
from typing import Any

import torch

from ..inputs.arguments import number_of_draws
from ..posterior.approximation import Approximation
from ..posterior.coords import Coords, dims_and_coords
from ..posterior.sample import Values
from ..runtime.state import reading
from ..runtime.traced import first_line
from ..storage.absent import refuse_without_data
from .groups import Groups, data_groups, posterior_groups, prior_groups, with_rows
from .pointwise import Points, guide_points

GROUPS = (
    *("posterior", "posterior_predictive", "log_likelihood", "sample_stats"),
    *("prior", "prior_predictive", "observed_data", "constant_data"),
)
LEADING = {"chain", "draw"}  # the dimensions that ArviZ puts first
Dims = dict[str, list[str]]


def to_arviz(
    fit: Approximation,
    n: int = 1000,
    *,
    seed: int = 0,
    sites: Collection[str] | None = None,
    groups: Collection[str] | None = None,
    points: Points | None = None,
    log_evidence: float | None = None,
) -> Any:
    """The fit as an arviz.InferenceData (a DataTree with ArviZ 1.x), with one chain of n draws.

    sites: the sites of the groups posterior and prior; None: all. A network has many weights: choose some.
    groups: of `GROUPS`; None: all. points: draws of the latents that were made elsewhere, in the place of n draws of
        the guide. log_evidence: log p(data), nats, where the guide is the posterior itself: log q follows from it.
    The likelihood of a row is conditional on the latents of the guide, those of the row too, as in PyMC; finite latents
    that were summed out are summed out of it. Predictions and likelihoods of
    more than 67 million numbers have fewer draws.
    A plate, a site or an argument that is called "chain" or "draw" has another name there: "draw_dim", "draw_site".
    Arguments that are no numbers (networks, text) are left out; `constant_data.attrs["left_out"]` names them.
    Raises ModuleNotFoundError without ArviZ; ValueError for a group or a site that there is not. Warns where the prior
    cannot be drawn.

    >>> import credo, torch
    >>> pair = credo.load("coin_toss")
    >>> fit = credo.fit(pair.model, None, torch.tensor([1.0, 1.0, 0.0, 1.0]))
    >>> fit.to_arviz(200).log_likelihood["flips"].sizes
    Frozen({'chain': 1, 'draw': 200, 'N': 4})
    """
    module = imported()
    refuse_without_data(fit.data, "rows")
    wanted = _chosen("groups", groups, GROUPS)
    if points is None:
        n = number_of_draws("to_arviz", n)
        with reading(fit.state, seed), torch.no_grad():
            points = guide_points(fit, n)._replace(log_evidence=log_evidence)
    found: Groups = {}
    if wanted & {"posterior", "posterior_predictive", "log_likelihood", "sample_stats"}:
        found |= posterior_groups(fit, points, seed, "posterior_predictive" in wanted)
    if wanted & {"prior", "prior_predictive"}:
        try:
            found |= prior_groups(fit, points.size, seed)
        except NotImplementedError as error:
            why = f"the prior cannot be drawn ({first_line(error)})"
            warnings.warn(
                f"to_arviz: no groups prior and prior_predictive: {why}; leave them out by groups=", stacklevel=3
            )
    data, left_out = data_groups(fit, seed)
    found |= data
    chosen = _chosen("sites", sites, [*found.get("posterior", {}), *found.get("prior", {})])
    for group in ("posterior", "prior"):
        found[group] = {name: value for name, value in found.get(group, {}).items() if name in chosen}
    dims, coords = dims_and_coords(fit)
    dims |= _dims_of_arguments(fit, found["constant_data"], found["observed_data"], dims, coords)
    xarray = importlib.import_module("xarray")
    found, dims, coords = _beside_chains_and_draws(found, dims, coords)
    datasets = {
        group: _dataset(xarray, found[group], dims, coords, drawn="data" not in group)
        for group in GROUPS
        if group in wanted and found.get(group)
    }
    if left_out and "constant_data" in datasets:
        datasets["constant_data"].attrs["left_out"] = ", ".join(left_out)
    if hasattr(module, "InferenceData"):
        return module.InferenceData(**datasets)
    return xarray.DataTree.from_dict(datasets)


def imported() -> Any:
    """ArviZ, or arviz-base. Raises ModuleNotFoundError, which says how to install it."""
    for name in ("arviz", "arviz_base"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # ArviZ 0.x announces 1.x on import
                return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError("to_arviz needs ArviZ, which is not installed: pip install 'credo[arviz]'")


def _chosen(what: str, names: Collection[str] | None, known: Iterable[str]) -> frozenset[str]:
    """The names that were asked for, all where none were. Raises ValueError for a name that is not known."""
    known = list(dict.fromkeys(known))
    if names is None:
        return frozenset(known)
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{what}: got {name!r}, wanted some of {', '.join(known)}{hint}")
    return frozenset(names)


def _beside_chains_and_draws(found: Groups, dims: Dims, coords: Coords) -> tuple[Groups, Dims, Coords]:
    """The same with other names for sites and dimensions that are called as ArviZ calls those of chains and draws."""
    sites = _renamed([name for values in found.values() for name in values], "site")
    plates = _renamed([dim for each in dims.values() for dim in each], "dim")
    return (
        {group: {sites.get(name, name): value for name, value in values.items()} for group, values in found.items()},
        {sites.get(name, name): [plates.get(dim, dim) for dim in each] for name, each in dims.items()},
        {plates.get(dim, dim): labels for dim, labels in coords.items()},
    )


def _renamed(names: Collection[str], ending: str) -> dict[str, str]:
    """{name: another one} of those that ArviZ calls its own dimensions by: a plate "draw" becomes "draw_dim"."""
    found = {}
    for name in sorted(LEADING & set(names)):
        found[name] = f"{name}_{ending}"
        while found[name] in names:
            found[name] += "_"
    return found


def _dims_of_arguments(fit: Approximation, constant: Values, observed: Values, dims: Dims, coords: Coords) -> Dims:
    """{argument: the names of its dimensions}: its rows as those of the observations, its columns by their names."""
    arguments, n = with_rows(fit)
    rows = [d for name in observed for d, size in zip(dims[name], observed[name].shape, strict=True) if size == n]
    found = {}
    for name, value in constant.items():
        found[name] = [f"{name}_dim_{i}" for i in range(value.dim())]
        if name in arguments and rows:
            found[name][0] = rows[0]
        if value.dim() > 1 and len(coords.get(f"{name}_column", ())) == value.shape[1]:
            found[name][1] = f"{name}_column"
    return found


def _dataset(xarray: Any, values: Values, dims: Dims, coords: Coords, drawn: bool) -> Any:
    """The values of a group with their dimensions. drawn: whether chains and draws come first."""
    leading = ["chain", "draw"] if drawn else []
    sizes: dict[str, int] = {}
    variables = {}
    for name, value in values.items():
        shape = value.shape[len(leading) :]
        own = []
        for i, size in enumerate(shape):
            known = dims.get(name, ())[i : i + 1]
            free = f"{name}_dim_{i}"
            dim = known[0] if known and known[0] not in values and sizes.get(known[0], size) == size else free
            own.append(free if dim in own else dim)
            sizes[own[-1]] = size
        array = value.detach().cpu()
        array = array.float() if array.dtype in (torch.bfloat16, torch.float16) else array
        variables[name] = ((*leading, *own), array.numpy())
    if drawn and values:
        chains, draws = next(iter(values.values())).shape[:2]
        sizes |= {"chain": chains, "draw": draws}
    labels = {dim: coords.get(dim, range(size)) for dim, size in sizes.items()}
    labels = {dim: list(label) if len(label) == sizes[dim] else range(sizes[dim]) for dim, label in labels.items()}
    return xarray.Dataset(variables, coords=labels, attrs={"inference_library": "credo"})
