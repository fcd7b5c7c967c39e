"""What a look at a fit says of it, in one of four answers: the draws of its guide beside those of the posterior."""

import math

import torch

from ..distributions.summaries import EMPTY, Labels
from ..gaussian.psis import Importance
from ..importance.correct_fit import GOOD, Look
from ..importance.correction import Correction
from ..posterior.coords import labels_of
from ..posterior.verdict import CORRECTED, NO, UNKNOWN, YES, Verdict
from ..runtime.sites import quoted
from ..variational.result import Fit
from .moments import SURE, TOLERATED, Difference, differences, not_finite

FEW = 100  # latents of a model without a correction, up to which k-hat alone says that a fit is wrong
AT_REST = "at rest, but not at the posterior"  # in the place of "converged", where the look finds that
LARGEST = 0.25  # error of a mean in sds, or of a log sd, that noise must not hide
LARGE = 0.15  # the same beyond one standard error
REFERENCE = "credo.reference draws from the posterior itself"
TIME = "credo.check(fit) takes more time; "
CORRELATED = "guide='full_rank' holds correlations; "
NON_CENTRED = "a non-centred parametrisation (z = mean + sd * e) helps with funnels"


def judged(look: Look, fit: Fit) -> Verdict:
    """What was seen, in one of four answers."""
    own, correction = look.importance, look.correction
    ended = [] if fit.converged or fit.stopped.startswith(("after the", AT_REST)) else [fit.stopped]
    own_sites = {name: value for name, value in look.guide.values.items() if name not in fit.followers}
    richer = f"{'' if fit.method == 'full rank' else CORRELATED}{NON_CENTRED}"
    if bad := not_finite(own_sites):
        return Verdict(NO, own.k_hat, (*ended, *bad), f"{richer}; {REFERENCE}")
    if correction is not None and correction.trusted:
        return _compared(look, correction, own_sites, ended, richer, labels_of(fit))
    far = [f"{own.words}, wanted at most {own.limit:.2f}"] if _far(own) else []
    if correction is not None:
        return Verdict(NO, own.k_hat, (*ended, *far, correction.doubt), f"{richer}; {REFERENCE}")
    latents = sum(value[0].numel() for value in look.guide.values.values())
    if ended or (far and latents <= FEW):
        return Verdict(NO, own.k_hat, (*ended, *far, look.unseen), f"{richer}; {TIME}{REFERENCE}")
    return Verdict(UNKNOWN, own.k_hat, (look.unseen,), f"{TIME}{REFERENCE}")


def _compared(
    look: Look,
    correction: Correction,
    own_sites: dict[str, torch.Tensor],
    ended: list[str],
    richer: str,
    named: Labels = EMPTY,
) -> Verdict:
    """The draws of the guide beside weighted draws of the posterior that can be trusted."""
    own = look.importance
    found = differences(own_sites, correction.values, correction.importance.log_weights, look.transforms, named)
    finite = {name: value for name, value in own_sites.items() if name not in correction.values}
    of_finite = differences(finite, finite, own.log_weights, {}, named)  # the correction does not hold them
    missed = _missed(own, correction.importance) if finite and own.reliable else ""
    if (wrong := [each for each in of_finite if each.size > TOLERATED]) or missed:
        reasons = [*([_worst(wrong)] if wrong else []), *([missed] if missed else []), *ended]
        remedy = f"leave {quoted(finite)} out of the guide, then credo sums over all values of it; {REFERENCE}"
        return Verdict(NO, own.k_hat, tuple(reasons), remedy)
    wrong = [each for each in found if each.size > TOLERATED]
    unsure = [each for each in found + of_finite if each.error > min(LARGEST, LARGE + each.noise)]
    reasons = [_worst(wrong or unsure)] if wrong or unsure else []
    if _far(own):
        reasons.append(f"{own.words}, wanted at most {own.limit:.2f}: the guide misses a part of the posterior")
    if not (reasons := [*reasons, *ended]):
        agreed = "means and sds agree with weighted draws of the posterior"
        return Verdict(YES, own.k_hat, (agreed, own.words), "")
    without = f", without {', '.join(finite)}" if finite else ""
    return Verdict(
        CORRECTED, own.k_hat, tuple(reasons), f"fit.corrected(n) has draws that are right{without}; {richer}"
    )


def _far(own: Importance) -> bool:
    """Whether the guide misses a part of the posterior where it has draws: they are worth little, and k-hat is large.

    k-hat alone is that of the last few of a thousand draws, and large for any prior with heavy tails.
    """
    return not own.reliable and own.ess < GOOD * len(own.log_weights)


def _missed(own: Importance, other: Importance) -> str:
    """Why a guide misses mass: its estimate of log p(data) is below another one; "" if it is not."""
    error = (own.log_evidence_error**2 + other.log_evidence_error**2) ** 0.5
    lacking = other.log_evidence - own.log_evidence
    if lacking < SURE * error + TOLERATED:
        return ""
    return f"the guide has {math.exp(-lacking):.0%} of p(data): it never draws some values of a finite latent"


def _worst(found: list[Difference]) -> str:
    ratios = [each.ratio for each in found]
    more = (
        f" (and {len(found) - 1} more, sds {min(ratios):.0%} to {max(ratios):.0%} of the true ones)"
        if len(found) > 1
        else ""
    )
    return found[0].words + more
