"""The loop over steps: the progress bar, Ctrl-C, and bad steps.

When the loop ends is for `endings` to say. However it ends, the ending has the average of the last iterates.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from ..runtime.interrupts import CtrlC
from ..runtime.parameters import iterate
from ..runtime.progress import advance, progress_bar
from ..stepping.bad_steps import SKIPPED, BadSteps
from ..stepping.steps import StepBlock
from .endings import Ending

INTERRUPTED = "interrupted after"  # so many steps: how the reason of a run begins that Ctrl-C ended


class Watch(Protocol):
    """Who else looks at a run between blocks of steps, and may end it: a callback, a validation."""

    def pause(self, done: int) -> int:
        """The step after which it must see the run, given the number of steps done."""
        ...

    def after(self, block: StepBlock, done: int, last: bool) -> str:
        """Why the run ends after this block, which ended at step `done`; empty if it goes on. last: it ends anyway."""
        ...


def loop(
    take_steps: Callable[[int], StepBlock],
    ending: Ending,
    *,
    total: int | None,
    progress: bool = True,
    bad: BadSteps | None = None,
    ctrl_c: CtrlC | None = None,
    watches: Sequence[Watch] = (),
    done: int = 0,
    whole: bool = False,
    together: bool = False,
    rate: Callable[[], float] | None = None,
) -> tuple[torch.Tensor | None, str]:
    """Takes steps until the ending or Ctrl-C; returns (the average of the last iterates, why the loop ended).

    The average has shape (P,); it is None if there were too few iterates. Bad steps count neither as steps nor as
    iterates.
    take_steps: takes at least one step and at most the number given. total: steps for the progress bar, if known.
    bad: counts the bad steps; None: the first one ends the loop, and every error is raised. ctrl_c: of the call; it
    may raise KeyboardInterrupt during steps, and not any more when the loop has ended. watches: see every block too.
    done: steps taken before, by another process. whole: Ctrl-C ends the loop after a block, never within one.
    together: of several processes, in all of which `take_steps` raises KeyboardInterrupt once it came to one of them.
    rate: the learning rate, for the progress bar.
    Raises NotFinite if too many steps are bad, and the error of a step that cannot be skipped.
    """
    skipped = () if bad is None else SKIPPED
    bad, ctrl_c = bad or BadSteps(row=1), ctrl_c or CtrlC()
    stopped = ""
    with progress_bar(total, progress, " steps", done) as bar:
        try:
            ctrl_c.raises = not (whole or together)
            while not stopped and done < ending.limit and (together or not ctrl_c.presses):
                try:
                    pause = min(ending.pause(done), *(watch.pause(done) for watch in watches), ending.limit)
                    block = take_steps(pause - done)
                except skipped as error:
                    bad.add_error(error)
                    continue
                good = bad.add(block)
                done += good
                if good:
                    if good < len(block.losses):
                        block = StepBlock(block.losses[:good], block.total - iterate())
                    if not bar.disable:
                        advance(bar, good, _words(block.losses, rate))
                    stopped = ending.after(block, done)
                    for watch in watches:
                        ended = watch.after(block, done, bool(stopped) or done >= ending.limit)
                        stopped = stopped or ended
        except KeyboardInterrupt:
            pass
        finally:
            ctrl_c.raises = False
    if not stopped and done < ending.limit:
        stopped = f"{INTERRUPTED} {done:,} steps (Ctrl-C)"
    return ending.average(), stopped or ending.at_limit


def _words(losses: list[float], rate: Callable[[], float] | None) -> str:
    loss = f"-ELBO {sum(losses) / len(losses):,.2f} nats"
    return loss if rate is None else f"{loss}, lr {rate():.2g}"
