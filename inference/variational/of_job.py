"""What all processes of a job get of a fit after its last step: the first of them looks at it, and tells the others."""

import dataclasses
from collections.abc import Callable
from typing import Any

from ..runtime.workers import Workers, agreed
from .result import Fit

SEEN = ("verdict", "stopped", "correction", "importance")  # fields of a fit that a look changes


def seen_by_first(fit: Fit, workers: Workers | None, look: Callable[[Fit], Fit]) -> Fit:
    """The fit as `look` returns it in the first process, whose clock says how much is seen. The others do not look."""
    if workers is None:
        return look(fit)

    def seen() -> dict[str, Any]:
        found = look(fit)
        return {name: getattr(found, name) for name in SEEN}

    return dataclasses.replace(fit, **agreed(workers, seen))
