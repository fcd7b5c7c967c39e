"""The loop over steps: the progress bar, Ctrl-C, and bad steps.

When the loop ends is for `endings` to say. However it ends, the ending has the average of the last iterates.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from tqdm import tqdm

from ..runtime.parameters import iterate
from .bad_steps import SKIPPED, BadSteps
from .endings import Ending
from .interrupts import CtrlC
from .steps import StepBlock

INTERRUPTED = "interrupted after"  # so many steps: how the reason of a run begins that Ctrl-C ended
SHOWN = 25  # steps after which the progress bar shows the loss again


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
) -> tuple[torch.Tensor | None, str]:
    """Takes steps until the ending or Ctrl-C; returns (the average of the last iterates, why the loop ended).

    The average has shape (P,); it is None if there were too few iterates. Bad steps count neither as steps nor as
    iterates.
    take_steps: takes at least one step and at most the number given. total: steps for the progress bar, if known.
    bad: counts the bad steps; None: the first one ends the loop, and every error is raised. ctrl_c: of the call; it
    may raise KeyboardInterrupt during steps, and not any more when the loop has ended. watches: see every block too.
    done: steps taken before, by another process. whole: Ctrl-C ends the loop after a block, never within one.
    Raises NotFinite if too many steps are bad, and the error of a step that cannot be skipped.
    """
    skipped = () if bad is None else SKIPPED
    bad, ctrl_c = bad or BadSteps(row=1), ctrl_c or CtrlC()
    stopped = ""
    with _progress_bar(total, progress) as bar:
        try:
            ctrl_c.raises = not whole
            while not stopped and done < ending.limit and not ctrl_c.presses:
                try:
                    pause = min(ending.pause(done), *(watch.pause(done) for watch in watches), ending.limit)
                    block = take_steps(pause - done)
                except skipped as error:
                    bad.add_error(error)
                    continue
                good = bad.add(block)
                before, done = done, done + good
                if good:
                    if good < len(block.losses):
                        block = StepBlock(block.losses[:good], block.total - iterate())
                    _show(bar, block, before, done)
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


def _progress_bar(total: int | None, progress: bool) -> tqdm:
    """A progress bar over steps, visible in a terminal and in a notebook only."""
    shown = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    return tqdm(total=total, disable=not shown, unit=" steps", leave=False)


def _show(bar: tqdm, block: StepBlock, before: int, done: int) -> None:
    """Moves the bar on by a block of steps. before, done: the numbers of steps before and after the block."""
    bar.update(len(block.losses))
    if before // SHOWN != done // SHOWN or not before:
        bar.set_postfix_str(f"-ELBO {block.losses[-1]:,.2f} nats")
