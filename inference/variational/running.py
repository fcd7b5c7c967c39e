"""What the runner `credo.SVI` does: begin on its first data, steps, a run, its state as a dictionary, a fit.

The functions work on the runner: `svi.py` has its public face.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch

from ..capture.cache import UNSAFE
from ..capture.same_form import Call
from ..inputs.arguments import Arguments, shown, whole_number
from ..inputs.call import argument_names
from ..inputs.versions import unchanged, versions
from ..pair.pair import Pair
from ..pair.same_job import refuse_other_sites, start_from_first
from ..planning.plan import Plan
from ..preflight.check import check, explain_index
from ..runtime.interrupts import CtrlC
from ..runtime.state import entered
from ..runtime.workers import everywhere
from ..stepping.begin import begin
from ..stepping.prepare import Prepared, first_steps, prepare, prepared_arguments
from ..stepping.settings import same_on_all
from ..stepping.shares import as_first
from ..stepping.steps import EAGER, StepBlock
from ..stepping.window_batches import close, refuse_scaled
from ..storage.kept import Kept
from ..updates.natural import know_batches
from .callback import EVERY, Callback, checked_callback
from .course import Course, Plans
from .going_on import place_fit, put_runner_state, runner_state
from .held_out import PATIENCE, checked_validation, held_out, parted
from .looks import data_or_last
from .loop import Watch
from .result import Fit
from .run import NO_STEP, fit_of, run, unplanned

OPTIONS = ("steps", "rows", "callback", "callback_every", "validation", "patience")  # of the calls of a runner
FORMAT = 1  # of the dictionary of a runner


def course_of(runner: Any, pair: Pair, prepared: Prepared, given: Arguments) -> Course:
    """What a run of this runner is made of."""
    plans = Plans(lambda: runner._current_plan, lambda plan: setattr(runner, "plan", plan))
    parts = (runner._settings, runner._steps, runner._races, runner.losses, runner._warnings)
    return Course(pair, given, prepared, *parts, plans, runner._take_steps)


def begun_on(runner: Any, data: tuple) -> tuple[Pair, Prepared, Arguments]:
    """(the pair on the data as tensors, what the run knows, the data with its names). The first data prepare it."""
    if runner._prepared is None:
        given, prepared = _prepare(runner, data)
    else:
        prepared = runner._prepared
        given = prepared_arguments(prepared, runner._settings.model, data)
    pair = Pair(runner.model, runner.guide, given.values, prepared.summed, followers=prepared.followers)
    return pair, prepared, given


def _prepare(runner: Any, data: tuple) -> tuple[Arguments, Prepared]:
    settings, runner._begun = runner._settings, None
    workers = settings.workers
    if not runner._checked:
        same_on_all(runner, data, settings._asdict())
    runner._begun = begun = runner._looked or everywhere(
        workers, lambda: begin(runner.model, runner.guide, settings, data)
    )
    runner._looked = None
    runner._warnings += begun.warnings
    if runner._start is not None:
        place_fit(begun.state, runner._start)
    start_from_first(workers, begun.state)
    prepared = as_first(everywhere(workers, lambda: prepare(begun, settings)), settings)
    refuse_other_sites(workers, begun.pair, begun.state, prepared.rows)
    if runner._start is not None and settings.kl_warmup is None:  # the weights have been away from the prior
        prepared = prepared._replace(warmup=0)
    runner._warnings += prepared.plan.biased
    runner._steps = first_steps(prepared, begun.pair, settings, runner._optim, runner._captures, runner._warnings)
    runner._prepared, runner.plan, runner._begun = prepared, prepared.plan, None
    runner._checked = versions(data)
    if (waiting := runner._waiting) is not None:
        before = list(runner.losses)
        try:
            put_state_of(runner, waiting)
        except BaseException:  # it waits on, so that no step is taken from elsewhere
            runner._prepared, runner.plan, runner.losses[:] = None, None, before
            raise
        runner._waiting = None
    return begun.given, prepared


def steps_of(runner: Any, pair: Pair, most: int = 1, patience: int = EAGER, warmup: int = 0) -> StepBlock:
    """The next steps, at most so many, whose losses the runner keeps."""
    plan: Plan = runner._current_plan
    refuse_scaled(runner._prepared.streamed, pair)
    warmup = runner._settings.kl_warmup or warmup  # also in a loop of one's own
    if not runner.losses:
        know_batches(runner._steps.optimiser, runner._prepared.scaled * pair.factor)
    try:
        block: StepBlock = runner._steps.take_steps(pair, plan, most, patience, warmup)
    except (IndexError, RuntimeError) as error:
        names = argument_names(runner._settings.model, len(pair.data))
        explain_index(error, runner.model, runner.guide, pair.data, names)
        raise
    runner.losses += [loss for loss in block.losses if math.isfinite(loss)]
    words = "eager: compile=False" if runner._captures is None else runner._captures.summary
    if words != plan.compiled:
        runner.plan = plan._replace(compiled=words)
        runner._warnings += [words] * (UNSAFE in words)
    return block


def run_of(
    runner: Any,
    data: tuple,
    steps: int | None,
    ctrl_c: CtrlC,
    *,
    callback: Any = None,
    callback_every: int = EVERY,
    validation: Any = None,
    patience: int = PATIENCE,
    kept: Kept | None = None,
) -> Fit:
    """A run on this data, whose caller raises the warnings collected and counts Ctrl-C. kept: its checkpoint."""
    try:
        return _run(runner, data, steps, ctrl_c, callback, callback_every, validation, patience, kept)
    finally:
        _close(runner)


def _run(
    runner: Any,
    data: tuple,
    steps: int | None,
    ctrl_c: CtrlC,
    callback: Any,
    callback_every: int,
    validation: Any,
    patience: int,
    kept: Kept | None,
) -> Fit:
    """The same; windows stay open behind it."""
    settings = runner._settings
    every, patience = checked_callback(callback, callback_every), checked_validation(validation, patience)
    data, held = parted(settings.model, data, validation, settings.seed, settings.batch_size)
    runner._last = Call(data, {}, None)  # of which a callback may take the fit
    steps, again = None if steps is None else whole_number("steps", steps, 0), runner.plan is not None
    try:
        ctrl_c.raises = runner._settings.workers is None  # one process alone must not leave the others waiting
        pair, prepared, given = runner._begin(data)
        if prepared.fixed_part is not None:
            raise ValueError(prepared.fixed_part)
        if again and prepared.streamed is None and not unchanged(data, runner._checked):
            with entered(prepared.state):
                check(runner.model, runner.guide, pair.data, given.names)
            runner._checked = versions(data)
    except KeyboardInterrupt:
        return without_steps(runner, data)
    finally:
        ctrl_c.raises = False
    with entered(prepared.state):
        watches: list[Watch] = (
            [] if callback is None else [Callback(callback, every, runner, runner.losses, runner._steps)]
        )
        course = course_of(runner, pair, prepared, given)
        if held is not None:
            watches = [held_out(course, held, every, patience), *watches]
        return run(course, steps, ctrl_c, watches, kept)


def _close(runner: Any) -> None:
    """Ends the reading ahead of rows that come by windows: no thread and no further window are kept."""
    if (known := runner._prepared or runner._begun or runner._looked) is not None:
        close(known.streamed)


def without_steps(runner: Any, data: tuple, why: str = NO_STEP) -> Fit:
    """The fit at the parameters as they are, without another step. why: the end of the run, in words."""
    if runner._prepared is None:
        runner._begun = begun = runner._begun or begin(runner.model, runner.guide, runner._settings, data)
        _close(runner)
        return unplanned(begun, runner._settings, why)
    course = course_of(runner, *runner._begin(data))
    with _entered(runner):
        return fit_of(course, None, why)


def _entered(runner: Any) -> AbstractContextManager[None]:
    """The state of the runner is in place inside; in a callback it is already."""
    return entered(runner._prepared.state) if runner._handed_out is None else nullcontext()


def fit_now(runner: Any, data: tuple, named: dict[str, Any]) -> Fit:
    """`SVI.fit`: the fit of the present parameters, of this data, or of the last call's if none is given."""
    data = data_or_last(runner, data, named, "fit")
    if runner._prepared is None:
        runner._begin(data)
    return without_steps(runner, data, f"after the {len(runner.losses):,} steps of a loop of one's own")


def state_of(runner: Any) -> dict[str, Any]:
    """`SVI.state_dict`."""
    if runner._prepared is None:
        if runner._waiting is not None:
            return dict(runner._waiting)
        raise ValueError(
            "state_dict: the runner has no parameters before its first data; call svi.prepare(*data), or take a step"
        )
    with _entered(runner):
        parts = runner._steps, runner._races, runner.losses, runner._current_plan
        return {"credo.SVI": FORMAT, "sites": [row.site for row in parts[3].entries], **runner_state(*parts)}


def put_state_of(runner: Any, state: Mapping[str, Any]) -> None:
    """`SVI.load_state_dict`: at once, or at the first step, when the parameters are there."""
    if not isinstance(state, Mapping) or "credo.SVI" not in state:
        raise ValueError(f"load_state_dict: got {shown(state)}, wanted the dictionary that svi.state_dict() returned")
    if (found := state["credo.SVI"]) != FORMAT:
        age = "a newer" if isinstance(found, int) and found > FORMAT else "another version of"
        raise ValueError(
            f"load_state_dict: {age} credo made this dictionary, in format {shown(found)}; this credo reads format "
            f"{FORMAT}: {'upgrade credo' if age == 'a newer' else 'load it with that version'}"
        )
    if runner._prepared is None:
        if "losses" not in state:
            raise ValueError("load_state_dict: the dictionary is not whole: 'losses' is missing")
        runner._waiting = state
        runner.losses[:] = torch.as_tensor(state["losses"]).tolist()
        return
    with _entered(runner):
        parts = runner._steps, runner._races, runner.losses, runner._current_plan
        before = runner_state(*parts)
        try:
            runner.plan = put_runner_state(state, *parts)
        except (KeyError, ValueError) as error:
            with suppress(KeyError, ValueError):
                put_runner_state(before, *parts)  # what was put before the error does not stay
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"load_state_dict: the dictionary is of another runner: {why}. Make this runner of the same model, "
                f"guide, optimiser and batch_size"
            ) from error
