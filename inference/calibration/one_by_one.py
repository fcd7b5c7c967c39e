"""Fits data sets one after another, and counts how many posterior draws are below the truth."""

import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map, tree_map_only
from tqdm import tqdm

from ..pair.pair import Program
from ..posterior.approximation import Approximation
from ..runtime.state import reading
from ..runtime.traced import first_line
from ..runtime.vectorise import draw_each
from .ranks import Values, counted_with_densities, log_densities
from .simulate import Simulated

MANY = 0.05  # of the fits, that fail or do not converge, above which the user is warned
SHOWN = 3  # kinds of warnings, and of errors, that are told
NUMBER = re.compile(r"-?\d[\d.,e+-]*")


class Counts(NamedTuple):
    """What the fits of some data sets say of the truth."""

    counts: list[Values]  # of each data set, as `counted` returns them
    which: list[int]  # the data sets that these are
    notes: list[str]  # what the fits warned of


NONE = Counts([], [], [])


class Messages:
    """Counts fits by what they say. Messages that differ in their numbers alone are one, told as it first was."""

    def __init__(self) -> None:
        self.total = 0  # fits
        self._times, self._first = Counter[str](), dict[str, str]()

    def add(self, messages: Iterable[str]) -> None:
        """The messages of one fit."""
        kinds = {NUMBER.sub("#", text): text for text in messages}
        self._times.update(kinds.keys())
        self._first = kinds | self._first
        self.total += 1

    def most_common(self) -> list[tuple[str, int]]:
        """(the first message of a kind, fits that gave one), the most frequent kind first."""
        return [(self._first[kind], times) for kind, times in self._times.most_common()]


def counts_of(model: Program, fit: Approximation, data: tuple[Any, ...], truth: Values, n: int, seed: int) -> Values:
    """How many of n draws are below the truth, for each latent and log density. fit: to this data, tensors.

    Densities are computed where the fit is, and counts on the CPU.
    """
    drawn = fit.sample(n, seed=seed)
    there = tree_map_only(torch.Tensor, lambda value: value.to(fit.state.device), data)
    draws = {name: drawn[name].to(fit.state.device, truth[name].dtype) for name in truth if name in drawn}
    kept = {name: truth[name] for name in draws}
    with reading(fit.state, seed):
        densities = draw_each(lambda z: log_densities(model, there, z), tree_map(_joined, draws, kept))
    return counted_with_densities(*tree_map(torch.Tensor.cpu, (draws, kept, densities)))


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
    found, done, said, failed = [], [], Messages(), Messages()
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
            said.add(str(warning.message) for warning in heard)
        except (ValueError, ArithmeticError, RuntimeError) as error:
            failed.add([first_line(error)])
            if failed.total == simulated.number:
                raise
        except KeyboardInterrupt:
            if not done:
                raise
            notes.append(f"interrupted (Ctrl-C) after {len(done):,} of {len(which):,} fits")
            break
    n = len(done) + failed.total
    if kinds := failed.most_common():
        told = "; ".join(words if len(kinds) == 1 else f"{words} ({times:,})" for words, times in kinds[:SHOWN])
        notes.append(f"{failed.total:,} of {n:,} fits failed, and are left out: {told}")
    often = [(words, times) for words, times in said.most_common()[:SHOWN] if times > MANY * n]
    notes += [f"{times:,} of {n:,} fits warned: {words}" for words, times in often]
    return Counts(found, done, notes)


def stacked(counts: list[Values]) -> Values:
    """The counts of several data sets as one, {name: (S, 2, *shape)}."""
    return {name: torch.stack([one[name] for one in counts]) for name in counts[0]}


def replaced(counts: Values, others: Counts, which: list[int]) -> Values:
    """The counts {name: (S, 2, *shape)} of all data sets, where those of `which` are from `others`.

    Data sets of `which` that `others` left out are left out here.
    """
    kept = sorted({*range(len(next(iter(counts.values()))))} - {*which})
    order = torch.tensor(kept + others.which).argsort()
    new = stacked(others.counts) if others.counts else {name: value[:0] for name, value in counts.items()}
    return {name: torch.cat([value[kept], new[name]])[order] for name, value in counts.items() if name in new}


def _joined(draws: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return torch.cat([draws, truth[None].to(draws.device)])
