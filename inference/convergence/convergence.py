"""When to stop, and the average of the iterates.

A run has stages of constant learning rate. Within a stage the iterates are averaged; the stage ends when the average
has stopped moving: between the last two quarters of the stage the ELBO gains nothing, or nothing beyond its Monte
Carlo error while the parameters drift no further than theirs (mean squared z-score over the parameters). Then, as soon
as the noise left in the average costs little too, the rate falls. The run ends when a whole stage at the lower rate
gained nothing (or at the fifth stage, where the rate is a hundredth of the first). Networks gain with the logarithm of
the steps and never rest: with many parameters a stage has a longest length, EXTENDED in the first if it gains.
A run that cuts a stage which still gains has not converged, and says how fast it gained. Both ELBOs of a comparison
see the same noise, so that differences far smaller than the ELBO's own error can be told.

Steps on batches of rows that can go on with all of them (`stepping/all_rows.py`) do so once noise hides the way.

A run rests too where its steps are too short, its gradient is hidden by noise, or a change is lost in rounding. So
before a run ends, and when a parameter moves on and on at the same speed or a stage is long, Newton's steps are tried
from the average (`newton`). If they gain, the run goes on from where they lead. A run has converged if, besides, the
means of its last two windows and stages lie within MOVED sds of each other, for each latent, and the ELBO does not
rise further along the way of the last stage.

Averages of iterates: Polyak and Juditsky 1992; windows and stages in SVI: Dhaka et al. 2020, Welandawe et al. 2022.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch

from .gain import Better, Gain
from .iterates import FIRST_CHECK, Iterates, drift

ANNEAL = 0.3  # the rate of a stage over that of the one before
MAX_STAGES = 5
NOISE = 5  # tolerances that the noise of minibatches and draws, left in the average, may cost when the run stops
COARSE = 4  # times more when only the rate falls: directions that move slowly are still hidden in the noise
MAX_MOVES = 8  # to points that Newton's steps found
PRECISE = 0.05  # nats for ten latent numbers or fewer: with a larger rounding error of the ELBO nobody can tell
SLOW = 2000  # steps of a stage after which Newton's steps are tried, whatever the iterates do
MOVED = 0.1  # sds of a latent: the answer of one stage, or of a quarter, must lie so near to that of the one before
FURTHER = (4, 64, 1024, 2**14, 2**18)  # times the way of the last stage, to see whether the ELBO still rises there
SURELY = 2  # tolerances that going further must gain
MAX_DRIFT = 3.0  # mean squared z-score; about 2 for parameters at rest, from so few blocks
EXTENDED = 2  # times its longest length that the first stage may take while it gains beyond its error
WORTH = 1.0  # nats that a run twice as long must promise; less is no reason to go on
LOWEST = "at the lowest learning rate"  # the end of many networks, which gain with the logarithm of the steps


@dataclass
class Convergence:
    """Watches the iterates of a run and says when a stage, and when the run, has come to rest."""

    gain: Callable[[torch.Tensor, torch.Tensor], Gain]  # of the first point over the second
    longest: Callable[[], float] = lambda: math.inf  # steps of a stage
    better: Callable[[torch.Tensor], Better | None] = lambda point: None  # than this point
    stuck: Callable[[torch.Tensor], str] = lambda point: ""  # which parameter cannot move from this point
    take_all: Callable[[bool], bool] = lambda now: False  # whether steps of batches could take all rows; True: they do
    agree: Callable[[bool], bool] = bool  # on what one of several processes finds
    iterates: Iterates = field(default_factory=Iterates)
    stages: int = 1
    moves: int = 0  # to better points
    on_batches: int = 0  # steps on batches before those on all rows; 0: there are not both
    verdict: str = ""  # in words, once stopped
    _before: torch.Tensor | None = None  # the average of the stage before
    _next: float = FIRST_CHECK  # steps in this stage at which to check again
    _steps: int = 0
    _done: int = 0  # steps of the stages before
    _cut: str = ""  # what the last stage that was cut still gained, in words

    def add(self, parameters: torch.Tensor, count: int = 1) -> Literal["go on", "replan", "move", "anneal", "stop"]:
        """Take one iterate, or the sum of several, at most `iterates.room`.

        "replan": still moving; a good time to choose estimators anew. "move": go on from the point `average()`, a new
        stage begins. "anneal": lower the rate, a new stage begins. "stop": the average is the answer.
        """
        self._steps += count
        if not self.iterates.add(parameters, count) or self._steps < self._next:
            return "go on"
        longest = self.longest()
        if self.stages == 1 and self.take_all(False):
            return self._on_batches(longest)
        recent = self.gain(self.iterates.quarter(1).mean(0), self.iterates.quarter(2).mean(0))
        promise = "" if self._steps < longest else self._promise(recent)
        longest *= EXTENDED if promise and self.stages == 1 else 1
        over = self._steps >= longest
        self._next = min(self._steps * 1.3, longest)
        if not over and not self.agree(self._at_rest(recent)):
            far = self.agree(self.iterates.straight() or (self._steps >= SLOW and math.isinf(longest)))
            ahead = self.better(self.iterates.quarter(1).mean(0)) if far else None
            return "replan" if ahead is None or not self._move(ahead) else "move"
        self._cut = (promise if over else "") or self._cut
        # At rest the last two quarters are two averages of the same: what their mean has over one is what noise costs.
        average = (self.iterates.quarter(1).mean(0) + self.iterates.quarter(2).mean(0)) / 2
        noise = self.gain(average, self.iterates.quarter(1).mean(0))
        little = max(NOISE * noise.tolerance, noise.error)
        if not over and noise.nats > COARSE * little:
            return "replan"
        before, last = self._before, self.stages >= MAX_STAGES
        if self.stages > 1 and before is not None and before.shape == average.shape:
            gain = self.gain(average, before)
            still = abs(gain.nats) <= max(gain.tolerance, 2 * gain.error) and gain.error <= 10 * gain.tolerance
            quiet = noise.nats <= little and noise.moved <= MOVED
            rests = still and quiet and gain.moved <= MOVED
            if last and not rests and not over and not quiet:
                return "replan"
            if rests or last:
                ahead = self.better(average)
                if ahead is not None and self._move(ahead):
                    return "move"
                doubt = self.stuck(average) or (self._further(average, before) if rests and not gain.unsteady else "")
                self.verdict = self._words(gain, rests, ahead, doubt)
        self._begin_stage(average)
        if self.verdict:
            return "stop"
        self.stages += 1
        return "anneal"

    def _on_batches(self, longest: float) -> Literal["move", "replan"]:
        """What comes next of steps on batches that can take all rows: no average of batches would be as near."""
        if self._steps < min(longest, SLOW) and self._drift > MAX_DRIFT:
            self._next = min(self._steps * 1.3, longest)
            return "replan"
        self.take_all(True)
        self.on_batches = self._done + self._steps
        self._begin_stage(self.iterates.quarter(1).mean(0))
        return "move"

    def _move(self, ahead: Better) -> bool:
        """Begins a new stage at a better point, unless that happened too often."""
        if self.moves == MAX_MOVES:
            return False
        self.moves, before = self.moves + 1, self._steps
        self._begin_stage(ahead.point)
        self._next = max(self._next, before)  # a shorter stage would not see what that one still gained
        return True

    def _further(self, average: torch.Tensor, before: torch.Tensor) -> str:
        """What going on along the way of the last stage would gain, in words; empty if nothing.

        Short steps, or a stage that ends early, leave a run on its way with gains below its tolerance.
        """
        way = average - before
        for length in FURTHER:
            if length > FURTHER[0] and length * way.abs().max().item() > 1:
                break
            gain = self.gain(average + length * way, average)
            if gain.nats > max(3 * gain.error, SURELY * gain.tolerance):
                return f"going {length:,} times further on the way of the last stage gains {gain.nats:.3g} nats"
        return ""

    def _promise(self, recent: Gain) -> str:
        """How fast the ELBO rises, in words, if a run twice as long promises more than WORTH; empty if it does not.

        recent: the gain of the last quarter of the stage over the one before it.
        """
        speed = 1000 / (len(self.iterates.quarter(1)) * self.iterates.block)
        least = (recent.nats - 2 * recent.error) * speed
        if not least * (self._done + self._steps) / 1000 > max(WORTH, recent.tolerance):
            return ""
        found = f"{recent.nats * speed:,.3g} ± {recent.error * speed:.2g} nats per 1,000 steps"
        return f"still gaining {found} when stage {self.stages} was cut after {self._steps:,} steps"

    def _words(self, gain: Gain, rests: bool, ahead: Better | None, doubt: str) -> str:
        """The verdict on a run that ends. doubt: what else speaks against it."""
        if doubt:
            return f"not converged: {doubt}"
        if ahead is not None:
            return (
                f"not converged: {self.moves} times a better point was found, and parameter {ahead.parameter!r} still "
                f"lies off one that gains {ahead.nats:.3g} nats"
            )
        if gain.rounding > PRECISE * max(1.0, gain.latents / 10):
            if gain.unsteady:
                return (
                    f"not converged: the ELBO moves by {gain.rounding:.2g} nats when nothing does, since the model or "
                    f"the guide draws noise outside of its sites, or counts; make it a latent with pyro.sample"
                )
            return (
                f"not converged: rounding alone moves the ELBO by {gain.rounding:.2g} nats; call "
                f"torch.set_default_dtype(torch.float64) before the fit, or shift and scale the data"
            )
        if self._cut:
            return f"not converged: {self._cut}"
        if rests:
            after = f"; all rows from step {self.on_batches:,} on" if self.on_batches else ""
            return f"converged: the last of {self.stages} stages gained nothing beyond its error{after}"
        change = f"{gain.nats:+.3g} ± {gain.error + gain.rounding:.2g} nats"
        change += f" and a latent's mean moved by {gain.moved:.2g} sds" if gain.moved > MOVED else ""
        return f"not converged: {LOWEST}, stage {self.stages}, the ELBO still changed by {change}"

    def _begin_stage(self, average: torch.Tensor) -> None:
        self._done += self._steps
        self._before, self.iterates, self._steps, self._next = average, Iterates(), 0, FIRST_CHECK

    def average(self) -> torch.Tensor | None:
        """The best answer so far: the average of this stage, or of the one before when this has no block yet."""
        now = self.iterates.average()
        return self._before if now is None else now

    @property
    def _drift(self) -> float:
        return drift(self.iterates.quarter(1), self.iterates.quarter(2))

    def _at_rest(self, gain: Gain) -> bool:
        """gain: of the last quarter of the stage over the one before it."""
        # Thousands of weights that only jitter hide the few that still move: so the ELBO decides too.
        return gain.nats <= gain.tolerance + (2 * gain.error if self._drift <= MAX_DRIFT else 0)
