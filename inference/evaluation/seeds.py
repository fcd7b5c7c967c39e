"""Fits from several seeds: the best by its ELBO, and whether the others agree. Never an average of their modes.

    best = argmax_s ELBO(q_s),   ELBO(q_s) = E_{q_s}[log p(data, z) - log q_s(z)]     by draws with the same noise

A posterior with several modes has several fits, and which of them a run finds depends on its seed.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch

from ..inputs.arguments import shown, whole_number
from ..posterior.agreement import Agreement, SeedRun
from ..posterior.marginals import means_and_sds
from ..runtime.generators import LARGEST_SEED
from ..runtime.traced import first_line
from ..variational.interrupts import interruptible
from ..variational.result import Diverged, Fit
from .evidence import log_weights_of

MOST = 1000  # seeds
FIRST, FEWEST, DRAWS = 64, 8, 4096  # draws of an ELBO: in the first part, of much data, and at most
NUMBERS = 2**26  # of the data, counted once for each draw
KNOWN, SHARE = 0.01, 0.05  # nats, and share of a difference, to which it is wanted
MOMENTS = 400  # draws for means that have no closed form


def seeds_of(seeds: Any, seed: int) -> tuple[int, ...]:
    """The seeds to fit from: `seed` and those that follow it for a number of seeds, else the seeds as listed.

    Raises ValueError for no seed, for one that occurs twice or is no whole number, and for more than a thousand.
    """
    if isinstance(seeds, str | bytes | bool) or not (isinstance(seeds, Iterable) and getattr(seeds, "ndim", 1)):
        first = whole_number("seed", seed, 0, LARGEST_SEED)
        found = tuple(range(first, first + whole_number("seeds", seeds, 1, MOST)))
    else:
        found = tuple(whole_number("seeds", each, 0, LARGEST_SEED) for each in seeds)
    if not 0 < len(found) <= MOST:
        raise ValueError(f"seeds: got {len(found):,} seeds, wanted 1 to {MOST:,}")
    if len(set(found)) < len(found):
        raise ValueError(f"seeds: got {shown(list(found))}, wanted each seed once: equal seeds make equal fits")
    whole_number("seeds", max(found), 0, LARGEST_SEED)
    return found


def best_of(fit: Callable[[int], Fit], seeds: tuple[int, ...], warned: list[str]) -> Fit:
    """The fit with the largest ELBO among those of the seeds; `fit.seeds` compares it with the others.

    fit: of one seed. warned: gets the warnings of the best fit, and those of seeds that failed. A closed form is the
    same for every seed, and is found once. A run that diverges, or meets an error of numbers after another has ended,
    is noted in the table. Ctrl-C ends with the fits so far. Raises what the first seed raises, if all fail.
    """
    fits: dict[int, Fit] = {}
    failed: dict[int, Exception] = {}
    heard: dict[int, list[str]] = {}
    for seed in seeds:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                fits[seed] = fit(seed)
            except KeyboardInterrupt:  # between two fits
                if not fits:
                    raise
                break
            except (ArithmeticError, RuntimeError, ValueError) as error:
                if not fits and not isinstance(error, Diverged):
                    raise
                failed[seed] = error
        heard[seed] = [str(each.message) for each in caught]
        if seed in fits and (fits[seed].method == "exact" or fits[seed].stopped.startswith("interrupted")):
            break
    if not fits:
        raise failed[seeds[0]]
    with interruptible():  # Ctrl-C waits: what is left is short
        best, agreement = _compared(fits, failed, seeds)
    warned += heard[best.seed] + [f"seed {s} failed: {_words(error)}" for s, error in failed.items()]
    return _with_agreement(best, agreement)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _with_agreement(best: Fit, agreement: Agreement) -> Fit:
    verdict = best.verdict
    if verdict is not None and agreement.words:
        verdict = verdict._replace(reasons=(*verdict.reasons, agreement.words))
    return dataclasses.replace(best, agreement=agreement, verdict=verdict)


def _compared(fits: dict[int, Fit], failed: dict[int, Exception], seeds: tuple[int, ...]) -> tuple[Fit, Agreement]:
    """(the best fit, all of them beside it)."""
    weights = elbos(list(fits.values()))
    means = weights.mean(1).nan_to_num(nan=-math.inf)
    if means.isfinite().any():
        best = list(fits)[int(means.argmax())]
    else:  # no ELBO can be taken: by the losses
        best = min(fits, key=lambda s: (fits[s].final_loss if fits[s].losses else math.inf, s))
    moments = {s: means_and_sds(fit, MOMENTS, 0) for s, fit in fits.items()}
    runs = []
    for s, (row, fit) in zip(fits, zip(weights, fits.values(), strict=True), strict=True):
        below = weights[list(fits).index(best)] - row
        runs.append(
            SeedRun(
                seed=s,
                elbo=row.mean().item(),
                error=_error(row),
                below=below.mean().item(),
                below_error=_error(below),
                steps=len(fit.losses),
                converged=fit.converged,
                trust="" if fit.verdict is None else fit.verdict.trust,
                stopped=fit.stopped,
                distances=_distances(moments[s], moments[best]),
            )
        )
    same = [runs[0]._replace(seed=s) for s in seeds if fits[best].method == "exact" and s not in fits]
    lost = [SeedRun(s, *([math.nan] * 4), _steps(error), False, "no", _words(error), {}) for s, error in failed.items()]
    place = {s: i for i, s in enumerate(seeds)}
    latents = sum(mean.numel() for mean, _ in moments[best].values())
    return fits[best], Agreement(tuple(sorted([*runs, *same, *lost], key=lambda r: place[r.seed])), best, latents)


def elbos(fits: list[Fit]) -> torch.Tensor:
    """log p(data, z) - log q(z) at draws of each fit that share their noise, shape (S, n), nats; rows of NaN where
    a fit has none.

    Draws are added until each difference to the best is known to KNOWN nats, or to SHARE of it.
    """
    numbers = sum(v.numel() for v in fits[0].data if isinstance(v, torch.Tensor))
    most = max(FEWEST, min(DRAWS, NUMBERS // max(1, numbers)))
    weights = torch.zeros(len(fits), 0, dtype=torch.float64)
    while (n := weights.shape[1]) < most:
        more = min(max(FIRST, n), most - n)
        weights = torch.cat([weights, torch.stack([_weights(fit, more, n) for fit in fits])], 1)
        below = weights[int(weights.mean(1).nan_to_num(nan=-math.inf).argmax())] - weights
        errors = below.std(1) / below.shape[1] ** 0.5
        if not (errors > (SHARE * below.mean(1).abs()).clamp(min=KNOWN)).any():
            break
    return weights


def _weights(fit: Fit, n: int, seed: int) -> torch.Tensor:
    try:
        return log_weights_of(fit, n, seed)
    except (ArithmeticError, RuntimeError, ValueError):  # of the user's program, at some draw
        return torch.full((n,), math.nan, dtype=torch.float64)


def _distances(
    one: dict[str, tuple[torch.Tensor, torch.Tensor]], best: dict[str, tuple[torch.Tensor, torch.Tensor]]
) -> dict[str, float]:
    """{site: the largest |mean - mean of the best| / sd of the best}; NaN where the best has no sd: a point."""
    found = {}
    for name, (mean, sd) in best.items():
        if name not in one or one[name][0].shape != mean.shape:
            continue
        apart = ((one[name][0].cpu() - mean.cpu()).abs() / sd.cpu())[sd.cpu() > 0]
        found[name] = apart.max().item() if apart.numel() else math.nan
    return found


def _error(draws: torch.Tensor) -> float:
    return (draws.std() / len(draws) ** 0.5).item() if len(draws) > 1 else math.nan


def _steps(error: Exception) -> int:
    fit = getattr(error, "fit", None)
    return 0 if fit is None else len(fit.losses)
