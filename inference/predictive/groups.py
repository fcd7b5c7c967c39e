"""What ArviZ asks of a fit, group by group, as tensors: draws with what belongs to them, predictions, data."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from ..inputs.call import argument_names
from ..pair.batches import rows_of
from ..posterior.approximation import Approximation, pair_of
from ..posterior.local_latents import Sources, sources
from ..posterior.sample import MOST, Values
from ..runtime.state import reading
from .batched import Memory, predictions
from .derived import derived
from .pointwise import Points, at_points, observations, wanted_beyond

FEWEST = 100  # draws of a prediction, however many numbers it has
Groups = dict[str, Values]


def posterior_groups(fit: Approximation, points: Points, seed: int, predictive: bool) -> Groups:
    """posterior, log_likelihood, sample_stats, and if wanted posterior_predictive: {name: (chains, draws, *shape)}.

    points: draws of the latents of the guide. All groups belong to these draws; predictions and likelihoods with more
    than 67 million numbers belong to the first draws of each chain.
    """
    beyond = wanted_beyond(fit, points.size, seed) if points.others is None else frozenset()
    with reading(fit.state, seed), torch.no_grad():
        few = max(1, _few(fit, points.size) // points.chains)
        first = points if few * points.chains == points.size else _first(points, few)
        found = at_points(fit, points, beyond, rows=first is points)
        rows = found if first is points else at_points(fit, first, frozenset())
        latents = points.values | found.values | (points.others or {})
        stats = {"lp": found.log_joint, **points.stats}
        if points.log_q is not None:
            stats["log_q"] = points.log_q
        elif points.log_evidence is not None:
            stats["log_q"] = found.log_joint - points.log_evidence
        groups = {"posterior": latents, "log_likelihood": rows.log_likelihood, "sample_stats": stats}
        apart = {group: _chains(values, points.chains) for group, values in groups.items()}
        if predictive:
            kept = {name: value[:, :few].flatten(0, 1) for name, value in apart["posterior"].items()}
            apart["posterior_predictive"] = _chains(_predicted(fit, kept, first.size, seed), points.chains)
    return apart


def prior_groups(fit: Approximation, n: int, seed: int) -> Groups:
    """prior and prior_predictive, {name: (1, draws, *shape)}. Raises NotImplementedError for a prior without draws."""
    with reading(fit.state, seed), torch.no_grad():
        seen = observations(fit)
        found = Sources(fit.data)
        n = _few(fit, n)
        drawn = predictions(pair_of(fit), fit.data, found, n, seed, _none, Memory(), [])
    return {
        "prior": {name: value[None] for name, value in drawn.items() if name not in seen},
        "prior_predictive": {name: value[None] for name, value in drawn.items() if name in seen},
    }


def data_groups(fit: Approximation, seed: int) -> tuple[Groups, list[str]]:
    """(observed_data and constant_data, {name: values}; the names of arguments that are no numbers)."""
    with reading(fit.state, seed), torch.no_grad():
        seen = {name: site["value"] for name, site in observations(fit).items()}
    constant, left_out = {}, []
    for i, (name, value) in enumerate(zip(argument_names(fit.model, len(fit.data)), fit.data, strict=True)):
        if isinstance(value, torch.Tensor | bool | int | float):
            tensor = torch.as_tensor(value)
            tensor = tensor.to_dense() if tensor.layout is not torch.strided else tensor
            if not _is_observed(fit, i, tensor, seen, seed):
                constant[name] = tensor
        elif value is not None:
            left_out.append(name)
    return {"observed_data": seen, "constant_data": constant}, left_out


def _is_observed(fit: Approximation, i: int, tensor: torch.Tensor, seen: Values, seed: int) -> bool:
    """Whether an argument is an observed site: it has the same numbers, and the site has them from this argument."""
    same = [name for name, value in seen.items() if _same_numbers(tensor, value)]
    if not same or not isinstance(fit.data[i], torch.Tensor):
        return False

    def observed_with(value: torch.Tensor) -> dict[str, Any]:
        return observations(fit, (*fit.data[:i], value, *fit.data[i + 1 :]))

    with reading(fit.state, seed), torch.no_grad():
        sites, marks = derived(observed_with, fit.data[i])
    return marks.holds(sites[name]["value"] for name in same if name in sites)


def _same_numbers(one: torch.Tensor, two: torch.Tensor) -> bool:
    return one.numel() == two.numel() and torch.equal(one.flatten(), two.flatten().to(one))


def with_rows(fit: Approximation) -> tuple[frozenset[str], int]:
    """(the names of the arguments that have rows, the number of rows)."""
    if not any(isinstance(value, torch.Tensor) and value.dim() > 0 for value in fit.data):
        return frozenset(), 0
    names = argument_names(fit.model, len(fit.data))
    arguments, n = rows_of(fit.data)
    return frozenset(names[i] for i in arguments), n


def _predicted(fit: Approximation, latents: Values, n: int, seed: int) -> Values:
    """n draws of the observations of the fit at these draws of the latents."""
    pair = pair_of(fit)
    found = sources(pair, fit.data)
    summed = frozenset() if fit.summed is None or found.first else fit.summed.sites
    kept = {name: value for name, value in latents.items() if name in found.kept | summed}
    seen = observations(fit)
    drawn = predictions(pair, fit.data, found, n, seed, partial(_slice, kept), Memory(), [])
    return {name: value for name, value in drawn.items() if name in seen}


def _slice(values: Values, begin: int, n: int) -> Values:
    return {name: value[begin : begin + n] for name, value in values.items()}


def _none(begin: int, n: int) -> Values:
    return {}


def _few(fit: Approximation, n: int) -> int:
    """How many of n draws of all observations fit into memory. The state of the fit has been entered."""
    numbers = sum(site["value"].numel() for site in observations(fit).values())
    return min(n, max(FEWEST, MOST // max(1, numbers)))


def _first(points: Points, few: int) -> Points:
    """The first draws of each chain."""
    values = {name: value[:, :few].flatten(0, 1) for name, value in _chains(points.values, points.chains).items()}
    return Points(values, few * points.chains, chains=points.chains)


def _chains(values: Mapping[str, torch.Tensor], chains: int) -> Values:
    return {name: value.unflatten(0, (chains, -1)) for name, value in values.items()}
