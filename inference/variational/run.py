"""A run from its first step to its fit: races, steps, ending, the checks after the last step.

What was learnt is never lost: an error of the user's program during a step carries the fit so far, and an error or
Ctrl-C after the last step leaves out a check of the result, not the result.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, TypeVar

import torch

from ..convergence.convergence import Convergence
from ..convergence.gain import Better, Elbo, Gain, elbo_gain
from ..convergence.newton import better_point
from ..convergence.recheck import jumps
from ..convergence.stuck import stuck
from ..inputs.arguments import Arguments
from ..pair.laplace import completed
from ..pair.pair import Pair
from ..planning.plan import Plan
from ..preflight.impossible import outside_at_the_end
from ..runtime.parameters import place_parameters, unconstrained
from ..runtime.state import entered
from ..runtime.vectorise import is_out_of_memory
from .bad_steps import SKIPPED, BadSteps, NotFinite
from .endings import Ending, FixedSteps, UntilConverged
from .interrupts import CtrlC
from .loop import Watch, loop
from .nonfinite import where_not_finite
from .prepare import Begun, Prepared
from .races import START, Races
from .result import Diverged, Fit, finished
from .settings import Settings
from .steps import StepBlock, Steps
from .update import limit_rates, move

T = TypeVar("T")
LONG = 50  # steps of a run that is long enough for a recording, after its first step
NO_STEP = "interrupted after 0 steps (Ctrl-C)"
MANY, LONGEST = 150, 1000  # with more parameters than MANY a stage has a longest length, of LONGEST steps or more
WORK = 4e6  # microseconds, counted: a stage of cheap steps takes as many steps as fit in, at most MOST times LONGEST
MOST = 10


class Plans(NamedTuple):
    """The plan in force, which the runner keeps: how to read it, and how to replace it."""

    now: Callable[[], Plan]
    replace: Callable[[Plan], None]


class Course(NamedTuple):
    """What a run is made of. The losses go on from run to run."""

    pair: Pair  # on all data
    given: Arguments
    prepared: Prepared
    settings: Settings
    steps: Steps
    races: Races
    losses: list[float]
    warnings: list[str]  # for the user, at the end of the call
    plans: Plans
    take_steps: Callable[[Pair, int, int, int], StepBlock]  # on the pair: at most so many, patience, warmup


def run(course: Course, steps: int | None, ctrl_c: CtrlC, watches: Sequence[Watch] = ()) -> Fit:
    """Takes steps in the state of the run, which is entered, until converged or for so many; returns the fit.

    Raises Diverged if too many steps are bad, or the error that a step raised; both have the fit so far as `.fit`.
    """
    bad, ending, begun = BadSteps(), _ending(course, steps), len(course.losses)
    warmup, racing = _warmup(course, steps), _races(steps)
    patience = 1 if steps is None or steps >= LONG else steps  # a recording costs what replays of some 40 steps save

    def take_steps(most: int) -> StepBlock:
        if racing and not course.losses and not bad.count:
            with suppress(*SKIPPED):  # a race that meets a bad draw keeps the plan
                part = course.steps.batch(course.pair)
                course.plans.replace(course.races.race(course.steps, part, course.plans.now(), steps))
        finite = False
        if course.steps.captures is not None and steps is not None:
            course.steps.captures.left = begun + steps - len(course.losses)
        try:
            block = course.take_steps(course.pair, most, patience, warmup)
            finite = all(map(math.isfinite, block.losses))
            return block
        finally:
            if course.steps.captures is not None:
                course.steps.captures.left = math.inf
            if not finite:
                course.steps.make_fewer(course.plans.now())

    course.steps.set_rate(1.0)
    try:
        progress = course.settings.progress
        average, stopped = loop(
            take_steps, ending, total=steps, progress=progress, bad=bad, ctrl_c=ctrl_c, watches=watches
        )
    except NotFinite as error:
        where = "" if error.__cause__ else where_not_finite(course.pair)
        raise Diverged(f"{error}{where}", fit_of(course, ending.average(), str(error))) from error.__cause__
    except Exception as error:
        if course.losses:
            keep_fit(
                error, fit_of(course, ending.average(), f"{type(error).__name__} after {len(course.losses):,} steps")
            )
        raise
    fit = fit_of(course, average, stopped)
    if bad.count:
        course.warnings.append(bad.warning + _unless_interrupted(ctrl_c, lambda: where_not_finite(course.pair), ""))
    pair = course.pair
    if outside := "" if pair.summed else _unless_interrupted(ctrl_c, lambda: outside_at_the_end(*pair[:3]), ""):
        stopped = f"not converged: {outside}" if fit.converged else stopped
        fit = replace(fit, stopped=stopped)
        course.warnings.append(outside)
    known = any(stopped.removeprefix("not converged: ").startswith(w.split(":")[0]) for w in course.warnings)
    if stopped.startswith("not converged") and not known:
        again = "with svi = credo.SVI(model, guide, ...) a second call goes on where the first ended"
        course.warnings.append(f"{stopped}. Go on: `fit = svi.run(...)`; {again}")
    if steps is None:
        course.warnings.extend(_jumps(course, fit.plan, ctrl_c))
    return fit


def fit_of(course: Course, average: torch.Tensor | None, stopped: str) -> Fit:
    """The fit at this average of the iterates, shape (P,); None: at the present parameters."""
    if average is not None:
        place_parameters(average, unconstrained().values())
    settings = course.settings
    pair = completed(course.pair, course.warnings)
    fit = finished(settings.model, pair, course.losses, course.plans.now(), stopped, settings.seed, course.given)
    rows = course.prepared.rows
    return replace(fit, falls=tuple(course.steps.falls), batch_size=None if rows is None else rows.size)


def unplanned(begun: Begun, settings: Settings, stopped: str) -> Fit:
    """The fit of a run that ended before it had a plan, at the parameters that the guide starts from."""
    with entered(begun.state):
        return finished(settings.model, begun.pair, [], Plan(()), stopped, settings.seed, begun.given)


def _ending(course: Course, steps: int | None) -> Ending:
    """When the run ends. At its pauses the learning rate falls and plans compete anew."""
    pair, _, prepared, settings, *_ = course
    ahead: list[Better] = []  # the last better point

    def replan(rate: float) -> None:
        falls = rate < course.steps.rate
        if _races(steps):
            part = course.steps.batch(pair)
            with suppress(*SKIPPED):
                course.plans.replace(course.races.race_on_the_way(course.steps, part, course.plans.now(), falls))
        course.steps.set_rate(rate)

    def elbo() -> Elbo:
        known = course.steps.vectorised, prepared.rows, prepared.latents, course.steps.particles_now
        return Elbo(pair, course.plans.now(), *known)

    def seed() -> int:
        return settings.seed * 1000 + len(course.losses)

    def gain(new: torch.Tensor, old: torch.Tensor) -> Gain:
        try:
            return elbo_gain(elbo(), new, old, seed=seed())
        except SKIPPED as error:  # at a bad draw
            if is_out_of_memory(error):
                raise
            return Gain(math.nan, math.nan, math.nan, prepared.latents)

    def better(point: torch.Tensor) -> Better | None:
        try:
            found = better_point(elbo(), point, seed=seed())
        except SKIPPED:
            return None
        ahead[:] = [] if found is None else [found]
        return found

    def go_on(point: torch.Tensor) -> None:
        move(course.steps.optimiser, point)
        if (scale := ahead[-1].scale) is not None:
            limit_rates(course.steps.optimiser, scale, course.steps.rate)

    def cannot_move(point: torch.Tensor) -> str:
        try:
            return stuck(elbo(), point, seed=seed())
        except SKIPPED:
            return ""

    if steps is not None:
        return FixedSteps(steps, replan)

    def longest() -> float:
        if sum(p.numel() for p in unconstrained().values()) <= MANY:
            return math.inf
        return min(max(LONGEST, WORK // (course.plans.now().microseconds or WORK)), MOST * LONGEST)

    rest = max(0, _warmup(course, steps) - len(course.losses))
    watch = Convergence(gain, longest, better, cannot_move)
    return UntilConverged(watch, replan, rest, go_on)


def _races(steps: int | None) -> bool:
    """Whether a run of so many steps is long enough for races."""
    return steps is None or steps >= START


def _warmup(course: Course, steps: int | None) -> int:
    return course.prepared.warmup if steps is None else min(course.prepared.warmup, steps // 4)


def _jumps(course: Course, plan: Plan, ctrl_c: CtrlC) -> list[str]:
    """The check of the pathwise sites after the last step, as warnings."""

    def look() -> list[str]:
        try:
            return jumps(course.steps.batch(course.pair), plan, course.steps.vectorised)
        except Exception as error:
            return [f"the check of the pathwise sites after the last step failed ({type(error).__name__}: {error})"]

    return _unless_interrupted(ctrl_c, look, [])


def _unless_interrupted(ctrl_c: CtrlC, look: Callable[[], T], nothing: T) -> T:
    """What a look at the result finds; Ctrl-C leaves it out. It never costs the fit."""
    try:
        ctrl_c.raises = not ctrl_c.presses
        return look()
    except KeyboardInterrupt:
        return nothing
    finally:
        ctrl_c.raises = False


def keep_fit(error: Exception, fit: Fit) -> None:
    """Hands the fit so far to whoever catches this error of the user's program."""
    with suppress(Exception):  # of an exception class that takes no attributes
        error.fit = fit  # type: ignore[attr-defined]
        error.add_note(f"credo: raised after {len(fit.losses):,} steps; .fit of this error holds the result until then")
