"""The loop over steps: the progress bar, Ctrl-C, and a loss that is not finite.

When the loop ends is for `endings` to say. However it ends, the average of the last iterates is not lost.
"""

import math
import sys
from collections.abc import Callable

import torch
from tqdm import tqdm

from .endings import Ending
from .steps import StepBlock

SHOWN = 25  # steps after which the progress bar shows the loss again


class NotFinite(ArithmeticError):
    """The loss became infinite or NaN. `.average`: the mean of the last finite iterates, shape (P,), or None."""

    average: torch.Tensor | None = None


def loop(
    take_steps: Callable[[int], StepBlock], ending: Ending, *, total: int | None, progress: bool = True
) -> tuple[torch.Tensor | None, str]:
    """Takes steps until the ending or Ctrl-C; returns (the average of the last iterates, why the loop ended).

    The average has shape (P,); it is None if there were too few iterates.
    take_steps: takes at least one step and at most the number given. total: steps for the progress bar, if known.
    Raises NotFinite, with the average so far.
    """
    done = 0
    with _progress_bar(total, progress) as bar:
        try:
            while done < ending.limit:
                block = take_steps(ending.pause(done) - done)
                before, done = done, done + len(block.losses)
                _show(bar, block, before, done)
                if not math.isfinite(block.losses[-1]):
                    raise NotFinite(f"-ELBO became {block.losses[-1]} at step {done:,}")
                if stopped := ending.after(block, done):
                    return ending.average(), stopped
        except KeyboardInterrupt:
            return ending.average(), f"interrupted after {done:,} steps (Ctrl-C)"
        except NotFinite as error:
            error.average = ending.average()
            raise
    return ending.average(), ending.at_limit


def _progress_bar(total: int | None, progress: bool) -> tqdm:
    """A progress bar over steps, visible in a terminal and in a notebook only."""
    shown = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    return tqdm(total=total, disable=not shown, unit=" steps", leave=False)


def _show(bar: tqdm, block: StepBlock, before: int, done: int) -> None:
    """Moves the bar on by a block of steps. before, done: the numbers of steps before and after the block."""
    bar.update(len(block.losses))
    if before // SHOWN != done // SHOWN or not before:
        bar.set_postfix_str(f"-ELBO {block.losses[-1]:,.2f} nats")
