"""`credo.check`: whether a fit can be trusted.

yes        draws of the guide have the means and sds of the posterior, and cover it
corrected  they have not, but weighted draws of the posterior do: `fit.corrected(n)`
no         the fit is wrong or has not converged, and no correction can be trusted
unknown    nothing here can tell: networks, models without a density of fixed latents
"""

import dataclasses
import math
import warnings
from typing import Any

from ..importance.correct_fit import Look, look_at, with_weighted_draws
from ..importance.correction import Correction
from ..importance.guide_draws import counted_once, point_estimates
from ..importance.look_at_all_rows import TooLong
from ..importance.of_all_rows import seen_of_all_rows
from ..posterior.verdict import CORRECTED, NO, UNKNOWN, YES, Verdict, not_looked_at
from ..posterior.weighted_guide import WeightedGuide
from ..runtime.sites import quoted
from ..runtime.vectorise import is_out_of_memory
from ..storage.absent import Absent, refuse_without_data
from ..streaming.source import Source
from ..variational.amortisation import with_gap
from ..variational.going_on import refuse_no_fit
from ..variational.result import Fit
from ..variational.streamed_fit import unknown_of_windows
from .judged import AT_REST, REFERENCE, TIME, judged
from .predictive import is_network, predictive
from .tempered import said_of

SHARE, LONGEST, SHORTEST = 0.1, 2.0, 0.04  # of the CPU of a fit; seconds of a look by default
OF_WINDOWS = 1.0  # seconds that a look at rows by windows takes at least
LEAST = 0.8  # seconds of the look at a fit that says "converged", however short it was
ON_DEMAND = 5.0  # seconds of CPU that `credo.check` takes at most, more or less
HELD_OUT = "hold rows out, validation=(x_val, y_val), or credo.reference draws from the posterior of some of them"
KEPT = 2**20  # numbers of the weighted draws of a right guide that the fit keeps: 8 MB


def check(fit: Fit, *data: Any, seconds: float = 30.0, seed: int = 0) -> Verdict:
    """Whether a fit can be trusted: its draws compared with weighted draws of the posterior, log w = log p - log r.

    Returns a `Verdict` (trust, k_hat, reasons, remedy), which prints as one line. trust is "yes": no mean is off by a
    tenth of an sd and no sd by 10 %, as far as the weighted draws can tell (within three of their standard errors);
    "corrected": one is, but `fit.corrected(n)` is right; "no": the fit is wrong or has not converged; "unknown":
    nothing here can tell.
    Raises ValueError for a fit that was loaded without its data.
    fit: what `credo.fit` returned. data: all rows again, of a fit that read them by windows and has few of them; then
        `fit.corrected(n, data=data)` has the draws that are right where the guide is not. seed: of the draws.
        seconds: of CPU that a network's longer run may take, or a look at all rows.
    It looks at Pareto k-hat of the importance weights of the guide's own draws, which tells what the guide misses where
    it has draws; and at a mixture of normals that starts from the guide and from ascents at dispersed points, which
    tells what it misses where it has none: another mode, the rest of a support, correlations. `credo.fit` does so too
    where it takes less than a tenth of the time of the fit.
    Of networks (100 weights or more among the latents) it judges the predictions, since nothing else can be: the run
    goes on for as many steps as the fit took, at least 1,000, or as many as fit into `seconds`, and the verdict is "no"
    if the predictive distribution moves or misses the data of the fit, else "unknown", with what was seen. The fit
    stays as it is.
    Source: Vehtari, Simpson, Gelman, Yao and Gabry 2024; Yao, Vehtari, Simpson and Gelman 2018.

    >>> import credo, torch
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> fit = credo.fit(pair.model, pair.guide, flips, steps=500, seed=1, compile=False)
    >>> credo.check(fit).trust
    'yes'
    """
    refuse_no_fit("fit", fit)
    if isinstance(fit.data, Absent) and fit.data.streamed:
        found = _by_all_rows(fit, data, seconds, seed).verdict if data else unknown_of_windows(fit.data.streamed)
        assert found is not None
        verdict = found._replace(remedy=found.remedy.replace("fit.corrected(n)", "fit.corrected(n, data=data)"))
    else:
        if data:
            raise ValueError("data: the fit has its rows; leave them out, credo.check(fit)")
        refuse_without_data(fit.data, "rows")
        verdict = _checked(fit, seconds, seed)
    return said_of(fit, with_gap(fit, verdict, seconds, seed))


def _by_all_rows(fit: Fit, data: tuple[Any, ...], seconds: float, seed: int, source: Source | None = None) -> Fit:
    """A fit that has few of its rows, with its verdict by all of them: `data`, or the source that the run read."""
    if (known := _without_a_look(fit)) is not None:
        return dataclasses.replace(fit, verdict=known)
    try:
        seen = seen_of_all_rows(fit, data, seconds=seconds, seed=seed, source=source)
    except TooLong as error:
        again = "credo.check(fit, *data, seconds=...) takes more time"
        return dataclasses.replace(fit, verdict=Verdict(UNKNOWN, math.nan, (str(error),), again))
    if isinstance(seen, str):
        return dataclasses.replace(fit, verdict=Verdict(UNKNOWN, math.nan, (f"no look at all rows: {seen}",), HELD_OUT))
    if isinstance(seen, Look):
        return concluded(fit, seen)
    return dataclasses.replace(fit, verdict=_checked(dataclasses.replace(fit, data=seen), seconds, seed))  # they fit


def _checked(fit: Fit, seconds: float, seed: int) -> Verdict:
    try:
        seen = examined(fit, seconds=ON_DEMAND, seed=seed)
    except Exception as error:  # of the user's program, at draws that it has not met before
        if is_out_of_memory(error):
            raise
        return Verdict(UNKNOWN, math.nan, (not_looked_at(error),), REFERENCE)
    verdict = seen.verdict
    assert verdict is not None
    if verdict.trust == CORRECTED:  # `fit.corrected` has these draws: a second look may run out of time
        vars(fit).setdefault("reweighted", with_weighted_draws(fit, seen.correction))
    if verdict.trust in (NO, UNKNOWN) and is_network(fit) and not point_estimates(fit):
        return on_predictions(fit, verdict, seconds, seed)
    return verdict._replace(remedy=verdict.remedy.replace(TIME, ""))  # it has been taken


def on_predictions(fit: Fit, verdict: Verdict, seconds: float, seed: int) -> Verdict:
    """The verdict on the predictions of a network; the one on its weights where the look at them fails."""
    try:
        return predictive(fit, verdict.k_hat, seconds=seconds, seed=seed)
    except Exception as error:  # of a program that cannot go on, or cannot predict
        if is_out_of_memory(error):
            raise
        return verdict._replace(reasons=(*verdict.reasons, not_looked_at(error)))


def examined(fit: Fit, *, seconds: float, seed: int = 0) -> Fit:
    """The fit with its verdict, its importance weights and its correction, after at most so many seconds of CPU."""
    if fit.method == "exact":
        return dataclasses.replace(fit, verdict=Verdict(YES, math.nan, ("the posterior in closed form",), ""))
    if isinstance(fit.guide, WeightedGuide) and fit.correction is not None:
        weighed = fit.correction.importance
        verdict = Verdict(YES, weighed.k_hat, ("weighted draws of the posterior", weighed.words), "")
        return dataclasses.replace(fit, verdict=verdict)
    if (known := _without_a_look(fit)) is not None:
        return dataclasses.replace(fit, verdict=known)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pyro's, about parameters that are set
        look = look_at(fit, seconds=seconds, seed=seed)
    if look is None:
        why = "not looked at: draws of the pair take too long"
        return dataclasses.replace(fit, verdict=Verdict(UNKNOWN, math.nan, (why,), TIME + REFERENCE))
    return concluded(fit, look)


def _without_a_look(fit: Fit) -> Verdict | None:
    """The verdict on a fit that has no densities to weigh; None where a look is wanted."""
    if point_estimates(fit):
        why, remedy = "a point estimate has no sds", "guide=None finds a distribution"
        if fit.method == "mean field":  # whose guide has a normal for each latent: there is none
            why, remedy = "parameters are point estimates", "a prior, pyro.sample, gives a parameter a distribution"
        return Verdict(UNKNOWN, math.nan, (why,), remedy)
    if once := counted_once(fit):
        why = f"{quoted(once)}: log densities that count once for all rows are those of no posterior, and have no k-hat"
        return Verdict(UNKNOWN, math.nan, (why,), "credo.check(fit)")
    return None


def with_verdict(fit: Fit, spent: float, source: Source | None = None) -> Fit:
    """The fit with its verdict, where that takes less than a tenth of the seconds of CPU that were spent on the fit, or
    .8 seconds if it says that it has converged. source: of a run that read its rows by windows, all of them.

    An error of the user's program during the look, or Ctrl-C, leaves the fit as it is.
    """
    looked = fit if fit.verdict is not None else _looked_at(fit, spent, source)  # a fit without steps has one already
    try:
        seen = None if looked.verdict is None else with_gap(looked, looked.verdict, SHARE * spent, fit.seed)
        verdict = None if seen is None else said_of(looked, seen)
    except (Exception, KeyboardInterrupt):  # of the user's program: the fit must not be lost
        return looked
    return looked if verdict is looked.verdict else dataclasses.replace(looked, verdict=verdict)


def _looked_at(fit: Fit, spent: float, source: Source | None) -> Fit:
    if isinstance(fit.data, Absent) and (source is None or SHARE * spent < OF_WINDOWS):
        return dataclasses.replace(fit, verdict=unknown_of_windows(fit.data.streamed))
    seconds = max(min(SHARE * spent, LONGEST), LEAST if fit.converged else 0.0)
    if seconds < SHORTEST:
        return dataclasses.replace(fit, verdict=Verdict(UNKNOWN, math.nan, ("not looked at",), "credo.check(fit)"))
    try:
        if isinstance(fit.data, Absent):
            return _by_all_rows(fit, (), SHARE * spent, fit.seed, source)
        return examined(fit, seconds=seconds, seed=fit.seed)
    except (Exception, KeyboardInterrupt) as error:  # of the user's program, at draws that it has not met before
        return dataclasses.replace(fit, verdict=Verdict(UNKNOWN, math.nan, (not_looked_at(error),), "credo.check(fit)"))


def concluded(fit: Fit, look: Look) -> Fit:
    """The fit with what was seen of it: its verdict, its importance weights, and its correction if one is wanted."""
    verdict = judged(look, fit)
    if verdict.trust in (NO, CORRECTED) and fit.converged:
        fit = dataclasses.replace(fit, stopped=fit.stopped.replace("converged", AT_REST, 1))
    correction = look.correction if look.correction is not None and look.correction.trusted else None
    best = look.importance
    if correction is not None:
        both = verdict.trust == YES and best.reliable  # know log p(data)
        if not both or correction.importance.log_evidence_error < best.log_evidence_error:
            best = correction.importance
    kept = correction if verdict.trust == CORRECTED or (verdict.trust == YES and _numbers(correction) <= KEPT) else None
    return dataclasses.replace(fit, verdict=verdict, correction=kept, importance=best)


def _numbers(correction: Correction | None) -> int:
    return 0 if correction is None else sum(value.numel() for value in correction.values.values())
