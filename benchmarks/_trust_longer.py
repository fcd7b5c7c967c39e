"""Does a run that says "converged" stay where it is? SVI to its own stop, then ten times as many steps in all.

Moved: the largest difference of a mean in posterior sds (of networks: of the predictive mean, in its sds) and the
largest factor between sds. No run that says "converged" may move by more than MOVED.
"""

import math
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from _trust_case import TooLong, limited
from _trust_longer_programs import Program, programs

import credo

MOVED = 0.1  # sds
TIMES, MOST = 9, 30_000  # as many steps again; at most
LIMIT = 900  # seconds of a program


class Longer(NamedTuple):
    """moved: sds; factor: of sds; both NaN where the run does not say "converged"."""

    name: str
    seed: int
    steps: int
    seconds: float
    converged: bool
    moved: float
    factor: float
    said: str

    @property
    def wrong(self) -> bool:
        return self.converged and not self.moved <= MOVED


def longer(chosen: Callable[[str], bool], seeds: range) -> list[Longer]:
    """Runs and prints them all."""
    rows = []
    for program in programs():
        for seed in seeds if chosen(program.name) else ():
            rows.append(row := one(program, seed))
            moved = f"moved {row.moved:.3f} sd, sds by {row.factor:.3f}" if row.converged else row.said
            mark = "MOVED" if row.wrong else "converged" if row.converged else "not"
            print(
                f"{row.name:28} {seed} {row.steps:7,} steps {row.seconds:6.1f} s  {mark:9}  {moved}"[:200], flush=True
            )
    ended, wrong = sum(row.converged for row in rows), [f"{row.name} ({row.seed})" for row in rows if row.wrong]
    print(f"\n{len(rows)} runs, {ended} converged; moved by more than {MOVED} sd: {len(wrong)}", *wrong)
    return rows


def one(program: Program, seed: int) -> Longer:
    row = Longer(program.name, seed, 0, 0.0, False, math.nan, math.nan, "")
    try:
        with warnings.catch_warnings(), limited(LIMIT):
            warnings.simplefilter("ignore")
            begun = time.process_time()
            svi = credo.SVI(program.model, program.guide(), seed=seed, progress=False, **program.options)
            fit = svi.run(*program.data)
            row = row._replace(steps=len(fit.losses), seconds=time.process_time() - begun)
            row = row._replace(converged=fit.converged, said=fit.stopped)
            if fit.converged:
                mean, sd = answer(fit, program)
                again = svi.run(*program.data, steps=min(TIMES * row.steps, MOST))
                row = row._replace(
                    **dict(zip(("moved", "factor"), beside(mean, sd, *answer(again, program)), strict=True))
                )
    except TooLong:
        row = row._replace(converged=False, said=f"more than {LIMIT} s")
    except Exception as error:  # whatever a run may raise; the others run all the same
        row = row._replace(converged=False, said=f"{type(error).__name__}: {str(error).splitlines()[0]}")
    return row


def answer(fit: Any, program: Program) -> tuple[torch.Tensor, torch.Tensor]:
    """(means, sds) of all latents, or of a network's prediction."""
    if program.predicts is not None:
        drawn = fit.predict(400, *program.predicts)["mean"].double()
        return drawn.mean(0), drawn.std(0)
    table = fit.summary(1000)
    return torch.tensor(table["mean"].to_numpy()).double(), torch.tensor(table["sd"].to_numpy()).double()


def beside(mean: torch.Tensor, sd: torch.Tensor, later: torch.Tensor, later_sd: torch.Tensor) -> tuple[float, float]:
    """(the largest move of a mean, in the larger of its two sds; the largest factor between sds)."""
    moved = ((mean - later).abs() / torch.maximum(sd, later_sd)).max().item()
    return moved, math.exp((sd / later_sd).log().abs().max().item())
