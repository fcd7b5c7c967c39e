"""Bad steps: steps that update nothing, since the loss or its gradient was not finite or the program raised an error.

One draw without a density is not the end of a run: a step is skipped and counted, and the run ends when too many come
in a row or their share grows too large. Their number and the first reason are said at the end.
"""

import math
import traceback
from dataclasses import dataclass

from ..capture.outside import source_line
from ..inputs.places import is_the_users_file
from ..pair.batches import OtherRows
from ..runtime.retries import NUMERIC
from ..runtime.vectorise import is_out_of_memory
from ..streaming.part import NotRead
from ..updates.schedule import NoRate
from .steps import StepBlock

ROW = 25  # bad steps in a row that end a run
SHARE, FROM = 0.4, 100  # of all steps that may be bad, once there are so many

# Errors that another draw may not raise: of a support, of a Cholesky factor, of a sampler.
SKIPPED = (ValueError, ArithmeticError, RuntimeError, IndexError, AssertionError)
# Errors among these that it raises again, or that must be heard at once.
_AT_ONCE = (OtherRows, NotRead, NoRate, NotImplementedError, RecursionError)


class NotFinite(ArithmeticError):
    """Too many steps of a run were bad: which and why. Its cause is the last error, if a step raised one."""


@dataclass
class BadSteps:
    """Counts the bad steps of a run. row: so many in a row end it; 1 ends it at the first."""

    row: int = ROW
    good: int = 0
    count: int = 0
    in_row: int = 0
    first: str = ""  # when and why

    def add(self, block: StepBlock) -> int:
        """Counts the steps of a block and returns how many were good. Raises NotFinite if too many are bad."""
        good = sum(map(math.isfinite, block.losses))
        self.good += good
        if good:
            self.in_row = 0
        if good < len(block.losses):
            self._add_bad(f"-ELBO became {block.losses[-1]}", None)
        return good

    def add_error(self, error: Exception) -> None:
        """Counts a step that raised an error. Raises NotFinite, or the error itself, if it ends the run."""
        if isinstance(error, _AT_ONCE) or is_out_of_memory(error):
            raise error
        self._add_bad(in_words(error), error)

    @property
    def warning(self) -> str:
        """How many steps were bad, and why; empty if none was."""
        if not self.count:
            return ""
        return (
            f"{self.count:,} of {self.good + self.count:,} steps were skipped; the first: {self.first}. The fit is "
            f"right where such draws are rare; a smaller lr or other starting values may avoid them"
        )

    def _add_bad(self, why: str, error: Exception | None) -> None:
        self.count += 1
        self.in_row += 1
        steps = self.good + self.count
        self.first = self.first or f"{why} at step {steps:,}"
        if self.in_row >= self.row:
            much = f", as in {self.row} steps in a row" if self.row > 1 else ""
        elif steps >= FROM and self.count > SHARE * steps:
            much = f"; {self.count:,} of the {steps:,} steps were bad"
        else:
            return
        if error is not None and not isinstance(error, NUMERIC):
            raise error  # say of a shape
        raise NotFinite(f"{why} at step {steps - self.in_row + 1:,}{much}") from error


def in_words(error: Exception) -> str:
    """The first line of an error, with the last line of the user's own code that led to it."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0][:200].rstrip('.') if lines else ''}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_the_users_file(frame.filename)]
    return text + (source_line(frames[-1].filename, frames[-1].lineno or 0) if frames else "")
