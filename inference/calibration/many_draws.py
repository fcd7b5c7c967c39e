"""Draws of many posteriors at once, and how many of them are below the truth."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map

from ..gaussian.density import Density
from ..posterior.sample import beyond_the_guide, joint_draw
from ..runtime.state import State, reading
from ..runtime.vectorise import can_vectorise, draw_each, each, repeat
from ..variational.result import Fit
from .many_svi import Parameters, data_with, parameters_placed, slots
from .ranks import Values, counted_with_densities, log_densities

APART, WIDER = 0.25, 1.25  # of two fits to the same data: means in sds, and ratio of sds, above which they differ
LOOK = 1000  # draws by which two fits are compared


class Posteriors(NamedTuple):
    """S posteriors with the same guide and parameters of their own."""

    fit: Fit  # to one of the data sets, for the guide
    state: State  # in which the guide has run once
    parameters: Parameters  # {name: unconstrained, (S, *shape)}
    arguments: dict[int, torch.Tensor]  # {index of an argument: (S, *shape)}, in the dtype of the fit


def counts_of_many(found: Posteriors, truth: Values, draws: int, seed: int) -> Values:
    """How many draws are below the truth, and equal to it: {name: (S, 2, *shape)}, for latents and log densities.

    truth: {site: (S, *shape)}.
    """
    with reading(found.state, seed):
        draw = _joint(found)
        one = tree_map(lambda value: value[0], (found.parameters, found.arguments, truth))

        def at(inputs: tuple[Parameters, dict[int, torch.Tensor], Values], vectorised: bool) -> Values:
            parameters, mine, true = inputs
            drawn = draw(parameters, mine, draws, vectorised)
            z = {name: drawn[name] for name in true if name in drawn}
            kept = {name: true[name].to(z[name].device) for name in z}
            both = {name: torch.cat([z[name], value.to(z[name])[None]]) for name, value in kept.items()}
            data = data_with(found.fit.data, mine)
            densities = each(lambda values: log_densities(found.fit.model, data, values), both, vectorised)
            return counted_with_densities(z, kept, densities)

        vectorised = can_vectorise(lambda: at(one, False))
        counts = draw_each(lambda inputs: at(inputs, vectorised), (found.parameters, found.arguments, truth))
    return tree_map(torch.Tensor.cpu, counts)


def same_posterior(found: Posteriors, seed: int) -> bool:
    """Whether the first posterior is that of the fit, which was made by itself on the first data set."""
    alone = found.fit.sample(LOOK, seed=seed)
    with reading(found.state, seed), torch.no_grad():
        parameters, mine = tree_map(lambda value: value[0], (found.parameters, found.arguments))
        draw = _joint(found)
        together = draw(parameters, mine, LOOK, can_vectorise(lambda: draw(parameters, mine, 1, False)))
    return not differ(together, alone)


def differ(draws: Values, others: Values) -> bool:
    """Whether two posteriors differ in a mean or an sd by more than their draws and the noise of a run explain."""
    for name, value in draws.items():
        one, other = value.cpu().double(), others[name].cpu().double()
        sd, apart = other.std(0), (one.mean(0) - other.mean(0)).abs()
        ratio = torch.maximum(one.std(0) / sd, sd / one.std(0))
        if ((apart > APART * sd) | ((ratio > WIDER) & (sd > 0))).any():
            return True
    return False


def counts_of_normals(density: Density, arguments: dict[int, torch.Tensor], us: torch.Tensor, truth: Values) -> Values:
    """The same for draws us (S, n, D) in unconstrained space. The state of the density has been entered."""
    draws = density.constrained(us)
    if density.summed is not None:
        finite = []
        for s, u in enumerate(us):
            mine = density._replace(data=data_with(density.data, {i: value[s] for i, value in arguments.items()}))
            found = mine.determined(u)
            finite.append({name: found[name] for name in density.summed.sites if name in found})
        draws |= tree_map(lambda *parts: torch.stack(parts), *finite)
    truth = {name: value.to(draws[name]) for name, value in truth.items() if name in draws}

    def at(inputs: tuple[dict[int, torch.Tensor], Values, Values]) -> Values:
        mine, z, true = inputs
        data, both = data_with(density.data, mine), {name: torch.cat([z[name], true[name][None]]) for name in true}
        densities = each(lambda values: log_densities(density.model, data, values), both, vectorised=True)
        return counted_with_densities(z, true, densities)

    return draw_each(at, (arguments, {name: draws[name] for name in truth}, truth))


def _joint(found: Posteriors) -> Callable[[Parameters, dict[int, torch.Tensor], int, bool], Values]:
    """Draws of one posterior: (its parameters, its arguments, how many, whether `vmap` takes them) -> {site: draws}."""
    fit = found.fit
    summed = frozenset() if fit.summed is None else fit.summed.sites
    wanted = summed & beyond_the_guide(fit).keys() if summed else summed
    known = slots(fit)

    def draw(parameters: Parameters, mine: dict[int, torch.Tensor], n: int, vectorised: bool) -> Values:
        one: Any = dataclasses.replace(fit, data=data_with(fit.data, mine))
        with parameters_placed(parameters, known):
            return repeat(lambda: joint_draw(one, wanted), n, vectorised)

    return draw
