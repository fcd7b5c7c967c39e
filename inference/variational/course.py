"""What a run is made of, and when it ends: its stages, and the checks that a stage ends with."""

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import NamedTuple, TypeVar

import torch

from ..convergence.convergence import Convergence
from ..convergence.gain import Better, Elbo, Gain, elbo_gain
from ..convergence.newton import better_point
from ..convergence.stuck import stuck
from ..inputs.arguments import Arguments
from ..pair.pair import Pair
from ..planning.plan import Plan
from ..runtime.parameters import unconstrained
from ..runtime.vectorise import is_out_of_memory
from ..runtime.workers import agreed
from ..stepping.all_rows import take_all_rows
from ..stepping.bad_steps import SKIPPED
from ..stepping.prepare import Prepared
from ..stepping.settings import Settings
from ..stepping.step_inputs import on_batch
from ..stepping.steps import StepBlock, Steps
from ..stepping.together import made_alike, raced
from ..updates.update import limit_rates, move
from .endings import Ending, FixedSteps, UntilConverged
from .races import START, Races

T = TypeVar("T")

MANY, LONGEST = 150, 1000  # with more parameters than MANY a stage has a longest length, of LONGEST steps or more
WORK = 4e6  # microseconds, counted: a stage of cheap steps takes as many steps as fit in, at most MOST times LONGEST
MOST = 10
VISITS = 200  # of each row of a table, for which a stage has time in any case


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


def ending_of(course: Course, steps: int | None) -> Ending:
    """When the run ends. At its pauses the learning rate falls and plans compete anew."""
    pair, _, prepared, settings, *_ = course
    tables, rows = course.steps.tables, prepared.rows
    seen = (pair, rows) if tables is None or rows is None else tables.on_panel(pair, rows)

    def looking() -> AbstractContextManager[None]:
        """Inside, the parameters are those that a look sees: of tables the rows of the panel."""
        return nullcontext() if tables is None else tables.in_store(tables.panel, course.steps.state.modules)

    ahead: list[Better] = []  # the last better point

    def replan(rate: float) -> None:
        falls = rate < course.steps.rate
        if has_races(steps):
            with suppress(*SKIPPED), on_batch(course.steps, pair) as part:
                now = course.plans.now()
                race = functools.partial(course.races.race_on_the_way, course.steps, part, now, falls)
                course.plans.replace(raced(course.steps, now, race))
        course.steps.set_rate(rate)
        if falls and tables is not None:
            tables.begin_averages(course.steps.optimiser)
        made_alike(course.steps)

    def elbo() -> Elbo:
        batched = None if course.steps.all_rows else seen[1]
        known = course.steps.vectorised, batched, prepared.latents, course.steps.particles_now
        return Elbo(seen[0], course.plans.now(), *known)

    def seed() -> int:
        return settings.seed * 1000 + len(course.losses)

    def gain(new: torch.Tensor, old: torch.Tensor) -> Gain:
        try:
            with looking():
                return elbo_gain(elbo(), new, old, seed=seed())
        except SKIPPED as error:  # at a bad draw
            if is_out_of_memory(error):
                raise
            return Gain(math.nan, math.nan, math.nan, prepared.latents)

    def better(point: torch.Tensor) -> Better | None:
        try:
            with looking():
                return better_point(elbo(), point, seed=seed())
        except SKIPPED:
            return None

    def go_on(point: torch.Tensor) -> None:
        if tables is not None:
            tables.begin_averages(course.steps.optimiser)
        with looking():
            move(course.steps.optimiser, point)
        if tables is None and ahead and (scale := ahead[-1].scale) is not None:
            limit_rates(course.steps.optimiser, scale, course.steps.rate)

    def cannot_move(point: torch.Tensor) -> str:
        try:
            with looking():
                return stuck(elbo(), point, seed=seed())
        except SKIPPED:
            return ""

    def of_first(look: Callable[..., T]) -> Callable[..., T]:
        """The look, at the iterates of the first process where there are several."""
        workers = settings.workers
        return look if workers is None else lambda *points: agreed(workers, lambda: look(*points))

    def ahead_of(point: torch.Tensor) -> Better | None:
        found = of_first(better)(point)
        ahead[:] = [] if found is None else [found]
        return found

    if steps is not None:
        return FixedSteps(steps, replan)

    def longest() -> float:
        if tables is None and sum(p.numel() for p in unconstrained().values()) <= MANY:
            return math.inf
        visits = 0.0 if tables is None or rows is None else VISITS * rows.n / rows.size
        return max(visits, min(max(LONGEST, WORK // (course.plans.now().microseconds or WORK)), MOST * LONGEST))

    def take_all(now: bool) -> bool:
        try:
            return take_all_rows(course.steps, pair, course.plans.now(), prepared.latents, now)
        except SKIPPED:
            return False

    rest = max(0, warmup_of(course, steps) - len(course.losses))
    watch = Convergence(of_first(gain), of_first(longest), ahead_of, of_first(cannot_move), take_all, of_first(bool))
    return UntilConverged(watch, replan, rest, go_on)


def has_races(steps: int | None) -> bool:
    """Whether a run of so many steps is long enough for races."""
    return steps is None or steps >= START


def warmup_of(course: Course, steps: int | None) -> int:
    """The steps over which the weight of log q - log p(z) rises. Raises ValueError if the user's leave too few."""
    asked = course.settings.kl_warmup
    if asked is not None:
        if steps is not None and asked > (most := 3 * (len(course.losses) + steps) // 4):
            raise ValueError(
                f"kl_warmup: got {asked:,} for {steps:,} steps, wanted {most:,} or fewer: the fit is the average of "
                f"the last quarter, which must have the whole objective"
            )
        return asked
    return course.prepared.warmup if steps is None else min(course.prepared.warmup, steps // 4)
