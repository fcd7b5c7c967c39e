"""Fits data sets one after another, and counts how many posterior draws are below the truth."""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map
from tqdm import tqdm

from ..pair.pair import Program
from ..posterior.approximation import Approximation
from ..runtime.state import reading
from ..runtime.traced import first_line
from ..runtime.vectorise import draw_each
from .ranks import Values, counted_with_densities, log_densities
from .simulate import Simulated

MANY = 0.05  # of the fits, that fail or do not converge, above which the user is warned
SHOWN = 3  # kinds of warnings that are told


class Counts(NamedTuple):
    """What the fits of some data sets say of the truth."""

    counts: list[Values]  # of each data set, as `counted` returns them
    which: list[int]  # the data sets that these are
    notes: list[str]  # what the fits warned of


def counts_of(model: Program, fit: Approximation, data: tuple[Any, ...], truth: Values, n: int, seed: int) -> Values:
    """How many of n draws are below the truth, for each latent and log density. fit: to this data, tensors."""
    drawn = fit.sample(n, seed=seed)
    draws = {name: drawn[name].to(truth[name].dtype) for name in truth if name in drawn}
    kept = {name: truth[name] for name in draws}
    with reading(fit.state, seed):
        densities = draw_each(lambda z: log_densities(model, data, z), tree_map(_joined, draws, kept))
    return counted_with_densities(draws, kept, densities)


def one_by_one(
    model: Program,
    fit: Callable[[tuple[Any, ...], int], Approximation],
    simulated: Simulated,
    data: tuple[Any, ...],
    which: Iterable[int],
    draws: int,
    seed: int,
    progress: bool,
) -> Counts:
    """The counts of data sets `which`. fit: (a data set, its number) -> its posterior.

    Fits that raise an error about numbers are left out and noted. Ctrl-C ends with the fits so far.
    """
    found, done, said, failed = [], [], Counter[str](), Counter[str]()
    which = list(which)
    shown = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    notes = []
    for s in tqdm(which, disable=not shown, unit=" fits", leave=False):
        values = simulated.data(data, s)
        truth = {name: value[s] for name, value in simulated.latents.items()}
        try:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                posterior = fit(values, s)
                found.append(counts_of(model, posterior, values, truth, draws, seed + s))
            done.append(s)
            said.update({str(warning.message) for warning in heard})
        except (ValueError, ArithmeticError, RuntimeError) as error:
            failed[first_line(error)] += 1
            if not done and failed.total() == len(which):
                raise
        except KeyboardInterrupt:
            if not done:
                raise
            notes.append(f"interrupted (Ctrl-C) after {len(done):,} of {len(which):,} fits")
            break
    n = len(done) + failed.total()
    notes += [f"{times:,} of {n:,} fits failed, and are left out: {words}" for words, times in failed.most_common()]
    notes += [
        f"{times:,} of {n:,} fits warned: {words}" for words, times in said.most_common(SHOWN) if times > MANY * n
    ]
    return Counts(found, done, notes)


def _joined(draws: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return torch.cat([draws, truth[None].to(draws.device)])
