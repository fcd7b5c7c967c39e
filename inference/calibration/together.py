"""Fits to many data sets at once, where the pair allows it: the ranks of the truth among draws of all of them."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch

from ..evaluation.family_fit import FACTORS, MEAN_FIELD
from ..gaussian.density import prepared
from ..gaussian.full_rank_normal import generator
from ..inputs.arguments import Arguments
from ..pair.followers import find_followers
from ..pair.pair import Pair, Program
from ..planning.plan import Plan
from ..preflight.given import check_given
from ..runtime.defaults import CPU, default_dtype
from ..runtime.state import entered, new_state
from ..runtime.traced import first_line
from ..variational.result import Fit, finished
from .many_draws import LOOK, Posteriors, counts_of_many, counts_of_normals, differ, same_posterior
from .many_normals import Normals, Problems, normals
from .many_svi import ManyFits, fit_many, starts
from .ranks import Values
from .simulate import Simulated

NORMAL = ("full rank", "Laplace", "exact")  # methods whose posterior is one normal, or may be one
MOST = 50  # latents of normals that are found together
EXACT = 1e-6  # residual of posteriors that are normal
FEW = 0.02  # of the fits, that still move, of which nothing is said or done
ANOTHER = "the fit of the first data set was not found again"
NO_PARAMETERS = "no fit"  # the method of a guide that is a function of the data alone


class Together(NamedTuple):
    """What the fits to all data sets say."""

    counts: Values  # {name: (S, 2, *shape)}, as `counts_of_many` returns them
    notes: list[str]
    again: list[int]  # the data sets that did not settle, and are to be fitted one after another


def without_parameters(model: Program, guide: Program, given: Arguments, seed: int) -> Fit:
    """The fit of a guide that has no parameters: a function of the data, of which nothing is to be trained.

    Raises ValueError for a pair that does not belong together, as `credo.fit` does.
    """
    state = new_state((model, guide, given.values), seed, torch.device("cpu"))
    with entered(state):
        found = check_given(model, guide, given)
        pair = Pair(model, guide, given.values, found.summed)
        pair = pair._replace(followers=find_followers(pair, seed))
        fit = finished(model, pair, [], Plan(()), NO_PARAMETERS, seed, given)
    return dataclasses.replace(fit, method=NO_PARAMETERS)


def together(
    first: Fit,
    simulated: Simulated,
    optimiser: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
    steps: int | None,
    draws: int,
    seed: int,
) -> Together | str:
    """The ranks of all data sets; why there are none, if the pair does not allow it or `first` is not found again.

    first: the fit to the first data set, by itself. The reason is empty where nothing went wrong.
    """
    try:
        if first.method in NORMAL:
            return _normals(first, simulated, draws, seed)
        if first.method in (NO_PARAMETERS, MEAN_FIELD, FACTORS) or first.losses:
            return _by_svi(first, simulated, optimiser, steps, draws, seed)
    except Exception as error:  # whatever `vmap` or the program raises: one after another, the fits may be found
        return first_line(error)
    return ""


def _by_svi(
    first: Fit,
    simulated: Simulated,
    optimiser: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
    steps: int | None,
    draws: int,
    seed: int,
) -> Together | str:
    state = new_state((first.model, first.guide, first.data), seed, first.state.device)
    arguments = {i: _like(first.data[i], value) for i, value in simulated.arguments.items()}
    with entered(state):
        first.guide(*first.data)
        if first.method == NO_PARAMETERS:
            found = ManyFits({}, 0, torch.zeros(simulated.number, dtype=torch.bool))
        else:
            found = fit_many(first, arguments, starts(first, arguments), optimiser, steps)
    posteriors = Posteriors(first, state, found.parameters, arguments)
    if not same_posterior(posteriors, seed):
        return ANOTHER
    counts = counts_of_many(posteriors, simulated.latents, draws, seed)
    moving, S = int(found.moving.sum()), simulated.number
    words = f"{moving:,} of {S:,} fits still move after {found.steps:,} steps; pass more: steps=..."
    return Together(counts, [words] if moving > FEW * S else [], [])


def _normals(first: Fit, simulated: Simulated, draws: int, seed: int) -> Together | str:
    density, state, _ = prepared(first.model, first.data, CPU, seed)
    arguments = {i: _like(density.first, value) for i, value in simulated.arguments.items()}
    if len(density.first) > MOST or not density.vectorised:
        return ""
    noise = generator(seed, density.first)
    with entered(state), default_dtype(density.first.dtype):
        found = normals(Problems(density, arguments), noise, laplace=first.method == "Laplace")
        if first.method == "exact" and found.residual.max() > EXACT:
            return ""
        some = Normals(*(part[:1] for part in found)).drawn(LOOK, noise)[0]
        if first.converged and differ(density.constrained(some), first.sample(LOOK, seed=seed)):
            return ANOTHER
        counts = counts_of_normals(density, arguments, found.drawn(draws, noise), simulated.latents)
    again = found.moving.nonzero().flatten().tolist()
    return Together(counts, [], again if len(again) > FEW * simulated.number else [])


def _like(given: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values on the device of another tensor, and in its precision where both are floating point."""
    both = given.is_floating_point() and values.is_floating_point()
    return values.to(given.device, given.dtype if both else values.dtype)
