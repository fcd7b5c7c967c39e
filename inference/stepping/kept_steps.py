"""Which steps of a loop of one's own are kept, to be taken once more without their Python (see `capture/again.py`)."""

from collections.abc import Collection
from typing import Any

from ..capture.again import again
from ..capture.captures import GRAPHS
from ..capture.same_form import Call, same_form
from ..inputs.arguments import Arguments
from ..updates.schedule import rate_of_step


def take_again(steps: Any, call: Call, losses: list[float]) -> bool:
    """Takes a step like one before, and appends its loss; False if there was none like it: no step is taken."""
    for one in steps.kept:
        with rate_of_step(steps.schedule, steps.optimiser, steps.taken):
            loss = one.take_again(call)
        if loss is not None:
            steps.taken += 1
            losses.append(loss)
            return True
    return False


def keep(steps: Any, call: Call, given: Arguments, gaps: Collection[str]) -> None:
    """Keeps the last of these `Steps` for `take_again`, if it was compiled. Processes take each step in full.

    gaps: arguments that may hold NaN or infinity.
    """
    if steps.captures is None or steps.compiled is None or steps.warming:
        return
    if steps.tables is not None or steps.workers is not None:
        return
    if (form := same_form(call, given, gaps)) is None:
        return
    replay, signature = steps.compiled
    kept = [one for one in steps.kept if one.replay.recorded is not replay.recorded][: GRAPHS - 1]
    new = again(replay, signature, steps.captures, steps.state, steps.batches, form)
    steps.kept = kept if new is None else [new, *kept]
