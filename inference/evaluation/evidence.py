"""The evidence gap KL(q || p) = log p(data) - ELBO, in nats, with its Monte Carlo error."""

import dataclasses
import math
from typing import NamedTuple

import torch

from ..gaussian.psis import Importance
from ..objective.elbo import log_weight
from ..pair.autoguide import with_guide
from ..posterior.approximation import pair_of
from ..runtime.state import reading
from ..runtime.vectorise import draw
from ..variational.in_words import last_tenth
from ..variational.result import Fit
from .exact_guide import ExactGuide

DRAWS, FEWEST = 4096, 8
NUMBERS = 2**26  # of the data, counted once for each draw
KNOWN = 0.05  # nats
SURE = 4  # Monte Carlo errors beyond which a negative gap is no accident


class EvidenceGap(NamedTuple):
    """log p(data), the ELBO with its Monte Carlo error, and their difference, in nats."""

    log_evidence: float
    elbo: float
    elbo_error: float
    evidence_gap: float
    gap_in_words: str


def evidence_gap(fit: Fit, log_evidence: float, points: bool, seed: int) -> tuple[EvidenceGap, bool]:
    """(the evidence gap, whether it is negative beyond its error, twice over: then one of its parts is wrong).

    points: whether the guide has point estimates, for which the gap is infinite.
    """
    elbo, error = _elbo(fit, log_evidence, seed)
    gap = math.inf if points else log_evidence - elbo
    impossible, words = False, f"KL(q || p) = log p(data) - ELBO = {gap:.4g} ± {error:.2g} nats"
    if points:
        words = "infinite: a point has no density"
    elif math.isnan(log_evidence):
        words = "unknown: draws from the posterior do not tell log p(data)"
    elif gap < -_slack(fit, log_evidence) - SURE * error:
        again, error_again = _elbo(fit, log_evidence, seed + 1, least=DRAWS)
        if log_evidence - again < -_slack(fit, log_evidence) - SURE * error_again:
            words = (
                f"log p(data) - ELBO = {gap:.4g} ± {error:.2g} nats, but no KL(q || p) is negative: the exact "
                f"posterior, the model and the ELBO do not belong together (another model, or other data?)"
            )
            impossible = True
    return EvidenceGap(log_evidence, elbo, error, gap, words), impossible


def of_weighted_draws(found: Importance, log_evidence: float) -> EvidenceGap:
    """The evidence by weighted draws, which have no ELBO."""
    estimate = f"{found.log_evidence:,.2f} ± {found.log_evidence_error:.2g}"
    words = (
        f"weighted draws, which have no ELBO: log p(data) = {estimate} nats by their weights, "
        f"{'unknown' if math.isnan(log_evidence) else f'{log_evidence:,.2f}'} by the exact posterior"
    )
    return EvidenceGap(log_evidence, math.nan, math.nan, math.nan, words)


def _slack(fit: Fit, log_evidence: float) -> float:
    """The rounding error of a log density of this size, nats."""
    floats = [
        v.dtype for v in (*fit.params.values(), *fit.data) if isinstance(v, torch.Tensor) and v.is_floating_point()
    ]
    # a closed form has no noise that would hide what constants of the model lose in single precision
    single = isinstance(fit.guide, ExactGuide) or any(dtype != torch.float64 for dtype in floats)
    return (1e-5 if single else 1e-9) * max(1.0, abs(log_evidence))


def _elbo(fit: Fit, log_evidence: float, seed: int, least: int = 64) -> tuple[float, float]:
    """(ELBO, its Monte Carlo error) in nats; draws are added until the error is small relative to the gap."""
    weights = torch.zeros(0, dtype=torch.float64)
    while len(weights) < DRAWS:
        weights = torch.cat([weights, log_weights_of(fit, max(least, len(weights)), seed + 1000 * len(weights))])
        error = (weights.std() / len(weights) ** 0.5).item()
        if error <= max(1e-3, 0.02 * abs(log_evidence - weights.mean().item())):
            break
    return weights.mean().item(), error


def log_weights_of(fit: Fit, n: int, seed: int) -> torch.Tensor:
    """log p(data, z) - log q(z) at n draws of a fit, shape (n,), nats, on the CPU. Their mean is the ELBO."""
    dtype = next((p.dtype for p in fit.params.values()), torch.float32)
    values = {name: v.to(dtype) if v.is_floating_point() else v for name, v in fit.plan.values.items()}
    recipe = fit.plan.recipe._replace(values=values)  # terms known in closed form need no draws
    with reading(fit.state, seed):
        return draw(lambda: log_weight(pair_of(fit), recipe), n).double().cpu()


def elbo_of(fit: Fit, prior: bool = True) -> tuple[float, float]:
    """(ELBO, its Monte Carlo error) of a fit alone, nats, by draws until the error is KNOWN or the work is enough.

    prior: False leaves the prior out, for maximum likelihood. Where the program cannot be scored at draws, minus the
    last losses, with an error of NaN. Of rows that the run read by windows the fit has few, which say nothing of the
    others: minus the last tenth of the losses, whose mean over batches is that of all rows.
    """
    if getattr(fit.data, "streamed", 0):
        last = torch.tensor(fit.losses[-last_tenth(fit.losses) :], dtype=torch.float64)
        return -last.mean().item(), (last.std() / len(last) ** 0.5).item() if len(last) > 1 else math.nan
    if not prior:
        fit = dataclasses.replace(fit, model=with_guide(fit.model, "mle")[0])
    numbers = sum(v.numel() for v in fit.data if isinstance(v, torch.Tensor))
    most = max(FEWEST, min(DRAWS, NUMBERS // max(1, numbers)))
    weights = torch.zeros(0, dtype=torch.float64)
    try:
        while len(weights) < most:
            more = min(max(64, len(weights)), most - len(weights))
            weights = torch.cat([weights, log_weights_of(fit, more, len(weights))])
            error = (weights.std() / len(weights) ** 0.5).item()
            if error <= KNOWN:
                break
        return weights.mean().item(), error
    except (ArithmeticError, RuntimeError, ValueError):  # of the user's program, at some draw
        return -fit.final_loss, math.nan
