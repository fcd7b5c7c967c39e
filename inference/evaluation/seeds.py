"""Fits from several seeds: the best by its ELBO, and whether the others agree. Never an average of their modes.

    best = argmax_s ELBO(q_s),   ELBO(q_s) = E_{q_s}[log p(data, z) - log q_s(z)]     by draws with the same noise

A posterior with several modes has several fits, and which of them a run finds depends on its seed.
"""

import dataclasses
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

from ..importance.guide_draws import point_estimates
from ..inputs.arguments import shown, whole_number
from ..pair.autoguide import with_guide
from ..posterior.agreement import Agreement, SeedRun
from ..posterior.marginals import means_and_sds
from ..posterior.verdict import UNKNOWN
from ..runtime.generators import LARGEST_SEED
from ..runtime.interrupts import interruptible
from ..runtime.traced import first_line
from ..streaming.source import source_of
from ..variational.result import Diverged, Fit
from .check import LEAST, with_verdict
from .evidence import log_weights_of
from .processes import Failed, cores, in_processes
from .valley import valley

MOST = 1000  # seeds
LONG = 3.0  # seconds of CPU of the first fit, from which the others run in processes of their own
FIRST, FEWEST, DRAWS = 64, 8, 4096  # draws of an ELBO: in the first part, of much data, and at most
NUMBERS = 2**26  # of the data, counted once for each draw
KNOWN, SHARE = 0.01, 0.05  # nats, and share of a difference, to which it is wanted
MOMENTS = 400  # draws for means that have no closed form


def seeds_of(seeds: Any, seed: int) -> tuple[int, ...]:
    """The seeds to fit from: `seed` and those that follow it for a number of seeds, else the seeds as listed.

    Raises ValueError for no seed, for one that occurs twice or is no whole number, and for more than a thousand.
    """
    if isinstance(seeds, str | bytes | bool) or not isinstance(seeds, Iterable) or getattr(seeds, "ndim", None) == 0:
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


class Outcome(NamedTuple):
    """What came of one seed: a fit, or the words of an error after so many steps; and its warnings."""

    fit: Fit | None
    words: str
    steps: int
    warnings: list[str]
    error: Exception | None = None  # None of another process


def best_of(
    fit: Callable[..., Fit], seeds: tuple[int, ...], warned: list[str], *, apart: bool = True, prior: bool = True
) -> Fit:
    """The fit with the largest ELBO among those of the seeds; `fit.seeds` compares it with the others.

    fit: fit(seed=...) is that of one seed, progress=False shows no progress. warned: gets the warnings of the best
    fit, and those of seeds that failed. apart: whether fits may run in processes of their own, which pays where one
    takes seconds: the library that the first one compiled serves the others. prior: False compares likelihoods, for
    maximum likelihood.
    A closed form is the same for every seed, and is found once. A seed that fails is noted in the table. Ctrl-C ends
    with the fits so far. Raises what the first seed raises, unless it diverges and another does not.
    """
    _refuse_windows(fit)
    begun = time.process_time()
    first, *rest = seeds
    found = {first: _outcome(fit, first)}
    error = found[first].error
    if error is not None and not isinstance(error, Diverged):
        raise error
    known = found[first].fit or getattr(error, "fit", None)
    if not _is_last(found[first]):
        if apart and known is not None and cores() > 1 and time.process_time() - begun > LONG:
            found |= _apart(fit, rest, known)
        else:
            for seed in rest:
                try:
                    found[seed] = _outcome(fit, seed)
                except KeyboardInterrupt:  # between two fits
                    break
                if _is_last(found[seed]):
                    break
    fits = {seed: each.fit for seed, each in found.items() if each.fit is not None}
    failed = {seed: each for seed, each in found.items() if each.fit is None}
    if not fits and error is not None:
        raise error
    with interruptible():  # Ctrl-C waits: what is left is short
        best, agreement = _compared(fits, failed, seeds, prior, time.process_time() - begun)
    warned += found[best.seed].warnings + [f"seed {seed} failed: {each.words}" for seed, each in failed.items()]
    return _with_agreement(best, agreement)


def _refuse_windows(fit: Any) -> None:
    """Raises ValueError for fits, as a partial of their call, whose rows do not fit into memory."""
    model, _, *data = getattr(fit, "args", None) or (None, None)
    if model is not None and (source := source_of(model, tuple(data), fit.keywords["batch_size"])) is not None:
        raise ValueError(
            f"seeds: the ELBO of a fit to {source.n:,} rows that the run reads by windows is not to be had; fit each "
            f"seed by itself, seed=1, and compare them on rows that are held out, validation=(x_val, y_val)"
        )


def _outcome(fit: Callable[..., Fit], seed: int) -> Outcome:
    found, failed = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = fit(seed=seed)
        except Exception as error:  # of the user's program too, at draws that other seeds have not met
            failed = error
    words = "" if failed is None else f"{type(failed).__name__}: {first_line(failed)}"
    steps = len(getattr(found or getattr(failed, "fit", None), "losses", ()))
    return Outcome(found, words, steps, [str(each.message) for each in caught], failed)


def _apart(fit: Callable[..., Fit], seeds: list[int], first: Fit) -> dict[int, Outcome]:
    """The same in processes. The data is that of the first fit, and is not sent."""

    def one(seed: int) -> Outcome:
        outcome = _outcome(functools.partial(fit, progress=False), seed)
        sent = None if outcome.fit is None else dataclasses.replace(outcome.fit, data=())
        return outcome._replace(fit=sent, error=None)

    found = {}
    for seed, came in in_processes(one, seeds).items():
        if isinstance(came, Failed):
            found[seed] = _outcome(fit, seed) if came.again else Outcome(None, came.words, 0, [])
        else:
            back = None if came.fit is None else dataclasses.replace(came.fit, data=first.data)
            found[seed] = came._replace(fit=back)
    return found


def _is_last(outcome: Outcome) -> bool:
    """Whether no other seed is to be tried: a closed form is the same for all, and Ctrl-C ends them all."""
    return outcome.fit is not None and (outcome.fit.method == "exact" or "interrupted" in outcome.fit.stopped)


def _with_agreement(best: Fit, agreement: Agreement) -> Fit:
    verdict = best.verdict
    if verdict is not None and agreement.words:
        verdict = verdict._replace(reasons=(*verdict.reasons, agreement.words))
    return dataclasses.replace(best, agreement=agreement, verdict=verdict)


def _compared(
    fits: dict[int, Fit], failed: dict[int, Outcome], seeds: tuple[int, ...], prior: bool, spent: float
) -> tuple[Fit, Agreement]:
    """(the best fit, all of them beside it). spent: seconds of CPU on all fits."""
    trained = {
        s: fit if prior else dataclasses.replace(fit, model=with_guide(fit.model, "mle")[0]) for s, fit in fits.items()
    }
    weights = elbos(list(trained.values()))
    best = list(fits)[int(weights.mean(1).nan_to_num(nan=-math.inf).argmax())]
    fits[best] = _looked_at(fits[best], spent)
    points = len(fits) > 1 and point_estimates(fits[best])
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
                valley=valley(trained[best], trained[s]) if points else math.nan,
            )
        )
    same = [runs[0]._replace(seed=s) for s in seeds if fits[best].method == "exact" and s not in fits]
    nan = math.nan
    lost = [SeedRun(s, nan, nan, nan, nan, each.steps, False, "no", each.words, {}) for s, each in failed.items()]
    place = {s: i for i, s in enumerate(seeds)}
    latents = sum(mean.numel() for mean, _ in moments[best].values())
    return fits[best], Agreement(tuple(sorted([*runs, *same, *lost], key=lambda r: place[r.seed])), best, latents)


def _looked_at(best: Fit, spent: float) -> Fit:
    """The best fit with a verdict, which the time of its own run alone may not have paid for."""
    if best.verdict is None or best.verdict.trust != UNKNOWN:
        return best
    return with_verdict(dataclasses.replace(best, verdict=None), max(spent, 10 * LEAST))


def elbos(fits: list[Fit]) -> torch.Tensor:
    """log p(data, z) - log q(z) at draws of each fit that share their noise, shape (S, n), nats. Where the program
    fails at a draw, minus the last losses of the fit are in their place.

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
        return torch.full((n,), -fit.final_loss, dtype=torch.float64)


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
