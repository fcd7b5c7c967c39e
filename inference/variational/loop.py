"""The loop over steps: progress, Ctrl-C, and when to stop.

Without a number of steps `Convergence` decides; with one, the learning rate stays as it is. Either way the answer is
the average of the last iterates, and Ctrl-C or a loss that is not finite loses nothing.
"""

import math
import sys
from collections.abc import Callable

import torch
from tqdm import tqdm

from .convergence import ANNEAL, Convergence, Gain, Mean
from .steps import Block

MAX_STEPS = 50_000


SHOWN = 25  # steps between two looks at the loss


class NotFinite(ArithmeticError):
    """The loss left the finite numbers; `.average` is the mean of the last finite iterates, or None."""

    average: torch.Tensor | None = None


def loop(
    advance: Callable[[int], Block],
    gain: Callable[[torch.Tensor, torch.Tensor], Gain] | None,
    look: Callable[[float], None] = lambda rate: None,
    *,
    steps: int | None,
    warmup: int = 0,
    longest: float = math.inf,
    progress: bool = True,
) -> tuple[torch.Tensor | None, str]:
    """(the average of the last iterates, shape (P,), or None if there were too few; why the loop ended).

    advance: takes one step or more, at most so many.
    gain: of one iterate over another, for steps=None.
    look: called now and then with the factor for the learning rate, to choose estimators anew.
    warmup: so many first steps have another objective and do not count. longest: steps of a stage (`Convergence`).
    Raises NotFinite, with the average so far.
    """
    if steps is None and gain is None:
        raise ValueError("steps: got None, but without a measure of gain a run does not stop by itself")
    watch = Convergence(gain, longest) if steps is None and gain is not None else None
    tail = Mean()  # of the last quarter of so many steps
    average = watch.average if watch else tail.value
    shown = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    done, limit = 0, MAX_STEPS if steps is None else steps
    last = limit - max(1, limit // 4)  # with a number of steps the iterates from here on are averaged
    with tqdm(total=steps, disable=not shown, unit=" steps", leave=False) as bar:
        try:
            while done < limit:
                stops = [warmup, done + watch.iterates.room] if watch else [limit // 2, last]
                block = advance(min(stop for stop in (*stops, limit) if stop > done) - done)
                before, done, loss = done, done + len(block.losses), block.losses[-1]
                bar.update(len(block.losses))
                if before // SHOWN != done // SHOWN or not before:
                    bar.set_postfix_str(f"-ELBO {loss:,.2f} nats")
                if not math.isfinite(loss):
                    raise NotFinite(f"-ELBO became {loss} at step {done:,}")
                if watch is None:
                    if done == limit // 2:
                        look(1.0)
                    if done > last:
                        tail.add(block.total, len(block.losses))
                    continue
                if done <= warmup:
                    continue
                action = watch.add(block.total, len(block.losses))
                if action == "stop":
                    return average(), watch.verdict
                if action != "go on":
                    look(ANNEAL ** (watch.stages - 1))
        except KeyboardInterrupt:
            return average(), f"interrupted after {done:,} steps (Ctrl-C)"
        except NotFinite as error:
            error.average = average()
            raise
    if steps is None:
        return average(), f"not converged in {MAX_STEPS:,} steps"
    return average(), f"after the {steps:,} steps asked for"
