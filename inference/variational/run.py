"""A run from its first step to its fit: races, steps, ending, the checks after the last step.

What was learnt is never lost: an error of the user's program during a step carries the fit so far, and an error or
Ctrl-C after the last step leaves out a check of the result, not the result.
"""

import functools
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import torch

from ..convergence.recheck import jumps
from ..convergence.rising import rising
from ..pair.batches import batch
from ..pair.laplace import completed
from ..pair.pair import Pair
from ..planning.plan import Plan
from ..preflight.impossible import outside_at_the_end
from ..runtime.generators import noise
from ..runtime.interrupts import CtrlC
from ..runtime.parameters import place_parameters, unconstrained
from ..runtime.state import entered
from ..runtime.torchrun import restarts
from ..runtime.workers import agreed, is_first, sent_from_first
from ..stepping.bad_steps import SKIPPED, BadSteps, NotFinite
from ..stepping.begin import Begun
from ..stepping.settings import Settings
from ..stepping.step_inputs import on_batch
from ..stepping.steps import StepBlock
from ..stepping.together import Interrupted, leave, made_alike, raced
from ..storage.kept import Kept
from ..updates.schedule import present_rate
from .checkpoint import Checkpoint, Place, Whole
from .course import Course, ending_of, has_races, warmup_of
from .held_out import HeldOut, kept_by
from .loop import Watch, loop
from .nonfinite import where_not_finite
from .result import Diverged, Fit, finished
from .streamed_fit import with_some_rows

T = TypeVar("T")
MANY = 1000  # rows
LONG = 50  # steps of a run that is long enough for a recording, after its first step
LARGER = "raise batch_size or particles, whose noise moves the means"
ANEW = "the run begins again at its first step, since it has no file to go on from: pass checkpoint=path"
NO_STEP = "interrupted after 0 steps (Ctrl-C)"


def run(
    course: Course, steps: int | None, ctrl_c: CtrlC, watches: Sequence[Watch] = (), kept: Kept | None = None
) -> Fit:
    """Takes steps in the state of the run, which is entered, until converged or for so many; returns the fit.

    kept: the file from which the run goes on, and to which it is written.
    Raises Diverged if too many steps are bad, or the error that a step raised; both have the fit so far as `.fit`.
    """
    bad, ending, racing = BadSteps(), ending_of(course, steps), has_races(steps)
    course.steps.set_rate(1.0)
    held = next((watch for watch in watches if isinstance(watch, HeldOut)), None)
    file = None if kept is None else Checkpoint(kept, course, ending, bad, steps, held, course.settings.workers)
    done, ended, warmup = Place(0, "", warmup_of(course, steps)) if file is None else file.open()
    begun = len(course.losses) - done
    if file is None and course.settings.workers is not None and restarts():
        course.warnings.append(f"torchrun has started this job anew ({restarts()} times); {ANEW}")
    if file is not None:  # what a callback changes is kept, and an interruption in it loses no step
        callbacks = [watch for watch in watches if watch is not held]
        watches = [*([] if held is None else [held]), Whole(file), *callbacks, file]
    patience = 1 if steps is None or steps >= LONG else steps  # a recording costs what replays of some 40 steps save

    def take_steps(most: int) -> StepBlock:
        if racing and not course.losses and not bad.count:
            with suppress(*SKIPPED):  # a race that meets a bad draw keeps the plan
                with on_batch(course.steps, course.pair) as part:
                    now = course.plans.now()
                    race = functools.partial(course.races.race, course.steps, part, now, steps)
                    course.plans.replace(raced(course.steps, now, race))
        finite = False
        if file is not None:
            file.torn = True
        if course.steps.captures is not None and steps is not None:
            course.steps.captures.left = begun + steps - len(course.losses)
        try:
            block = course.take_steps(course.pair, most, patience, warmup)
            finite = all(map(math.isfinite, block.losses))
            return block
        except Interrupted:  # before the step
            finite = True
            if file is not None:
                file.torn = False
            raise
        finally:
            if course.steps.captures is not None:
                course.steps.captures.left = math.inf
            if not finite:
                course.steps.make_fewer(course.plans.now())

    workers = course.settings.workers
    course.steps.pressed = lambda: ctrl_c.presses
    at: dict[str, Any] = {"total": steps, "done": done, "whole": file is not None, "together": workers is not None}
    at["progress"] = course.settings.progress and is_first(workers)
    at["rate"] = lambda: present_rate(course.steps.schedule, course.steps.optimiser)
    try:
        average, stopped = ending.average(), ended
        if not ended:
            average, stopped = loop(take_steps, ending, bad=bad, ctrl_c=ctrl_c, watches=watches, **at)
        made_alike(course.steps)
        sent_from_first(workers, [] if average is None else [average])
    except NotFinite as error:
        where = "" if error.__cause__ else where_not_finite(_at_hand(course))
        raise Diverged(f"{error}{where}", fit_of(course, ending.average(), str(error))) from error.__cause__
    except Exception as error:
        leave(workers, error)
        if course.losses:
            keep_fit(
                error, fit_of(course, ending.average(), f"{type(error).__name__} after {len(course.losses):,} steps")
            )
        raise
    if file is not None and not ended:
        file.close(stopped)
    average, stopped = kept_by(watches, average, stopped)
    schedule = course.steps.schedule
    if schedule is not None and schedule.doubt and stopped.startswith("converged"):
        stopped = f"not converged: {schedule.doubt}"
    fit = fit_of(course, average, stopped)
    if bad.count:
        course.warnings.append(
            bad.warning + _unless_interrupted(ctrl_c, lambda: where_not_finite(_at_hand(course)), "")
        )
    pair = course.pair
    look = functools.partial(_unless_interrupted, ctrl_c, lambda: outside_at_the_end(*_some(course)), "")
    if outside := "" if pair.summed else agreed(workers, look):
        stopped = f"not converged: {outside}" if fit.converged else stopped
        fit = replace(fit, stopped=stopped)
        course.warnings.append(outside)
    known = any(stopped.removeprefix("not converged: ").startswith(w.split(":")[0]) for w in course.warnings)
    if stopped.startswith("not converged") and not known:
        again = "svi = credo.SVI(model, guide, ...) goes on where it ended; so does credo.fit(..., start=fit)"
        course.warnings.append(f"{stopped}. Go on: `fit = svi.run(...)`; {again}")
    if course.settings.natural and (risen := rising(course.losses, warmup)):
        course.warnings.append(f"{risen}: the natural gradient steps are too long; lower lr, or {LARGER}")
    if steps is None:
        course.warnings.extend(_jumps(course, fit.plan, ctrl_c))
    return fit


def _at_hand(course: Course) -> Pair:
    """The pair on all data; where they do not fit into memory, on MANY rows of the window at hand."""
    return course.pair if course.prepared.streamed is None else course.pair._replace(data=_some(course)[2])


def _some(course: Course) -> tuple[Any, ...]:
    """(model, guide, data) for a look at the result: where steps take batches, on MANY rows at random at most."""
    rows, pair = course.prepared.rows, course.pair
    if rows is not None and rows.n > MANY:
        with noise(0):
            pair = batch(pair, rows, torch.randperm(rows.n)[:MANY])
    return tuple(pair[:3])


def fit_of(course: Course, average: torch.Tensor | None, stopped: str) -> Fit:
    """The fit at this average of the iterates, shape (P,); None: at the present parameters."""
    settings, tables = course.settings, course.steps.tables
    if average is not None and tables is not None:
        tables.put_averages(course.steps.optimiser)
        average = tables.outside(average)
    if average is not None:
        place_parameters(average, unconstrained().values())
    rows, schedule = course.prepared.rows, course.steps.schedule
    pair = completed(course.pair, course.warnings, rows)
    with course.steps.all_trained():
        fit = finished(settings.model, pair, course.losses, course.plans.now(), stopped, settings.seed, course.given)
    falls = tuple(sorted({*course.steps.falls, *([] if schedule is None else schedule.falls)}))
    fit = replace(fit, falls=falls, batch_size=None if rows is None else rows.size)
    streamed = course.prepared.streamed
    if streamed is None or rows is None:
        return fit
    return with_some_rows(fit, rows.arguments, rows.total, rows.plates)


def unplanned(begun: Begun, settings: Settings, stopped: str) -> Fit:
    """The fit of a run that ended before it had a plan, at the parameters that the guide starts from."""
    with entered(begun.state):
        fit = finished(settings.model, begun.pair, [], Plan(()), stopped, settings.seed, begun.given)
        if begun.streamed is None:
            return fit
        source = begun.streamed.source
        return with_some_rows(fit, source.rows, source.n, begun.frames)


def _jumps(course: Course, plan: Plan, ctrl_c: CtrlC) -> list[str]:
    """The check of the pathwise sites after the last step, as warnings."""
    part = course.steps.batch(course.pair)

    def look() -> list[str]:
        try:
            return jumps(part, plan, course.steps.vectorised)
        except Exception as error:
            return [f"the check of the pathwise sites after the last step failed ({type(error).__name__}: {error})"]

    return agreed(course.settings.workers, lambda: _unless_interrupted(ctrl_c, look, []))


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
