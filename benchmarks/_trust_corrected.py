"""Are corrected draws right? Means and sds beside the truth in Monte Carlo errors, the evidence beside the exact one.

Fits that are wrong, by mean field, and normals of full rank; then `fit.corrected`. The Monte Carlo error of a mean of n
draws resampled from weights with an effective sample size ESS is sd sqrt(1/ESS + 1/n), that of an sd follows by the
delta method; the truth adds its own error.
"""

import math
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from _trust_case import DRAWS, Moments, Posterior, TooLong, limited
from _trust_truths import truth

import credo

GUIDES = ("mean_field", "full_rank")
K_HAT = 0.7
FEW = 10  # scalars of a site that count: sites of a hundred would decide everything


class Corrected(NamedTuple):
    """errors: of each mean and sd, in Monte Carlo errors. evidence: in standard errors; NaN without a formula.

    why: the reason for which there are no draws.
    """

    name: str
    guide: str
    seed: int
    k_hat: float
    errors: list[float]
    evidence: float
    why: str


def corrected(posteriors: list[Posterior], seeds: range, folder: Path) -> list[Corrected]:
    """Runs and prints them all."""
    rows = []
    for posterior in posteriors:
        try:
            moments = truth(posterior, folder).moments
        except ValueError as error:
            print(f"{posterior.name:34} left out: {error}", flush=True)
            continue
        for guide in GUIDES:
            for seed in seeds:
                rows.append(row := one(posterior, moments, guide, seed))
                far = sum(error > 2 for error in row.errors)
                said = row.why or f"{far} of {len(row.errors)} beyond 2, worst {max(row.errors):.1f}"
                evidence = "" if math.isnan(row.evidence) else f", evidence {row.evidence:+.1f} errors off"
                print(f"{row.name:34} {guide:10} {seed} k-hat {row.k_hat:.2f}  {said}{evidence}"[:220], flush=True)
    totals(rows)
    return rows


def one(posterior: Posterior, moments: dict[str, Moments], guide: str, seed: int) -> Corrected:
    row = Corrected(posterior.name, guide, seed, math.nan, [], math.nan, "")
    try:
        with warnings.catch_warnings(), limited(600):
            warnings.simplefilter("ignore")
            again = credo.fit(posterior.model, guide, *posterior.data, seed=seed, progress=False).reweighted
            draws = again.sample(DRAWS, seed=seed)
    except TooLong:
        return row._replace(why="too long")
    except Exception as error:  # a refusal names its reason
        return row._replace(why=f"{type(error).__name__}: {str(error).splitlines()[0]}")
    weights = again.correction.importance
    errors = [z for name, known in moments.items() if name in draws for z in in_errors(draws[name], known, weights.ess)]
    row = row._replace(k_hat=weights.k_hat, errors=errors)
    if posterior.known is not None:
        off = weights.log_evidence - posterior.known.log_evidence
        row = row._replace(evidence=off / max(weights.log_evidence_error, 1e-9))
    return row


def in_errors(draws: torch.Tensor, known: Moments, ess: float) -> list[float]:
    """|mean - its truth| and |sd - its truth| of the first scalars of a site, in Monte Carlo errors."""
    x = draws.detach().double().reshape(len(draws), -1)[:, :FEW]
    mean, sd, mean_error, sd_error = (part.flatten()[:FEW] for part in known)
    spread = 1 / ess + 1 / len(x)
    square = (x - x.mean(0)).square()
    of_mean = (sd.square() * spread + mean_error.square()).sqrt()
    of_sd = (square.var(0) * spread / (2 * sd).square() + sd_error.square()).sqrt()
    return [*((x.mean(0) - mean) / of_mean).abs().tolist(), *((x.std(0) - sd) / of_sd).abs().tolist()]


def totals(rows: list[Corrected]) -> None:
    for guide in GUIDES:
        some = [row for row in rows if row.guide == guide]
        good = [row for row in some if row.k_hat < K_HAT]
        errors = [error for row in good for error in row.errors]
        evidence = [abs(row.evidence) for row in some if not math.isnan(row.evidence)]
        near = sum(error <= 2 for error in errors) / max(1, len(errors))
        print(f"\nguide {guide}: {len(some)} fits, {len(good)} with draws and k-hat < {K_HAT}")
        print(f"within 2 Monte Carlo errors: {near:.1%} of {len(errors)} means and sds")
        print(f"evidence within 3 errors: {sum(off <= 3 for off in evidence)} of {len(evidence)}")
