"""What the runs of several seeds found, side by side: the best by its ELBO, and whether the others agree with it.

    below_s = ELBO(best) - ELBO(s)                          nats, from draws of both that share their noise
    distance_s(site) = max |E_s[z] - E_best[z]| / sd_best[z]    over the scalars of a site
    valley_s = min(f(0), f(1)) - min_h f(h)                 of point estimates: how far log p falls between them, nats

Runs are compared by their ELBO first: labels of a mixture that change places move every mean, and are no other answer.
"""

import math
from typing import NamedTuple

import pandas as pd

SAME = 0.1  # nats of the ELBO, at least, that two runs may differ by and have found the same
EACH = 1e-4  # nats for each latent number, where there are many
SURE = 3.0  # Monte Carlo errors
FAR = 1.0  # sds from which a mean is elsewhere
SHOWN = 3  # seeds, and sites of a seed, that are named


class SeedRun(NamedTuple):
    """What the run of one seed found."""

    seed: int
    elbo: float  # nats; NaN of a run that failed
    error: float  # the Monte Carlo error of the ELBO, nats
    below: float  # how far the ELBO is below that of the best run, nats
    below_error: float  # its Monte Carlo error, nats; smaller, since the draws share their noise
    steps: int
    converged: bool
    trust: str  # of the verdict
    stopped: str
    distances: dict[str, float]  # {site: the largest distance of its means from those of the best run, in sds}
    valley: float = math.nan  # of point estimates: how far log p falls between the best run and this one, nats


class Agreement(NamedTuple):
    """The runs of all seeds in their order, the seed of the best, and how many latent numbers the model has."""

    runs: tuple[SeedRun, ...]
    best: int
    latents: int = 1

    @property
    def table(self) -> pd.DataFrame:
        """A row for each seed; the columns `|site|` have the distances of means from the best run, in its sds.

        Point estimates have the column `valley` instead: how far log p falls between the best run and this one, nats.
        """
        names = ("ELBO", "error", "below", "below error", "steps", "converged", "trust", "stopped")
        sites = list(dict.fromkeys(site for run in self.runs for site in run.distances))
        points = any(not math.isnan(run.valley) for run in self.runs)
        rows = [
            dict(zip(names, run[1:9], strict=True))
            | {f"|{site}|": run.distances.get(site, math.nan) for site in sites}
            | ({"valley": run.valley} if points else {})
            for run in self.runs
        ]
        table = pd.DataFrame(rows, index=pd.Index([run.seed for run in self.runs], name="seed"))
        table.attrs = {"best": self.best, "agreement": self.words}
        return table

    @property
    def same(self) -> float:
        """Nats that two runs may differ by, or lie apart, and have found the same."""
        return max(SAME, EACH * self.latents)

    @property
    def words(self) -> str:
        """How many seeds found the best, and what became of the others; empty for one seed."""
        if len(self.runs) < 2:
            return ""
        lower, elsewhere, failed = [], [], []
        for run in self.runs:
            if math.isnan(run.below):
                failed.append(run)
            elif run.below > max(self.same, SURE * run.below_error):
                lower.append(run)
            elif _far([run], self.same):
                elsewhere.append(run)
        same = len(self.runs) - len(lower) - len(elsewhere) - len(failed)
        parts = [f"{same} of {len(self.runs)} seeds found this"]
        if elsewhere:
            words = "found the same ELBO elsewhere, as where labels change places"
            parts.append(f"{_seeds(elsewhere)} {words}: {_far(elsewhere, self.same)}")
        if lower:
            least, most = (f"{pick(run.below for run in lower):.2g}" for pick in (min, max))
            nats = least if least == most else f"{least} to {most}"
            where = f" at another mode: {_far(lower, self.same)}" if _far(lower, self.same) else ""
            parts.append(f"{_seeds(lower)} ended {nats} nats lower{where}")
        return "; ".join([*parts, *(f"{_seeds([run])} failed: {run.stopped}" for run in failed[:SHOWN])])


def _seeds(runs: list[SeedRun]) -> str:
    named = ", ".join(str(run.seed) for run in runs[: 3 * SHOWN]) + (", ..." if len(runs) > 3 * SHOWN else "")
    return f"seed{'s' if len(runs) > 1 else ''} {named}"


def _far(runs: list[SeedRun], same: float) -> str:
    """The sites whose means are far from those of the best run, the farthest first, and the valley between points that
    is deeper than `same` nats; empty if there are none.
    """
    far: dict[str, float] = {}
    for run in runs:
        for site, distance in run.distances.items():
            if distance > max(FAR, far.get(site, 0.0)):
                far[site] = distance
    names = sorted(far, key=lambda site: -far[site])
    words = ", ".join(f"{site} {far[site]:.2g} sds away" for site in names[:SHOWN])
    words += f" and {len(names) - SHOWN} more sites" if len(names) > SHOWN else ""
    deep = [run.valley for run in runs if run.valley > same]
    fall = f"log p falls by {min(deep):,.1f} nats or more on the way" if deep else ""
    return ", ".join(part for part in (words, fall) if part)
