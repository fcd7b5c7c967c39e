"""A program in which something happens at a given call, counted from when the test says so."""

import math
from collections.abc import Callable
from typing import Any


class Armed:
    """Calls a program with what `strike(calls so far, y)` makes of its data. `calls = 0` begins the count."""

    def __init__(self, program: Callable[..., Any], strike: Callable[[float, Any], Any]) -> None:
        self.program, self.strike, self.calls = program, strike, -math.inf

    def __call__(self, y: Any) -> Any:
        self.calls += 1
        return self.program(self.strike(self.calls, y))


def interrupting(at: int) -> Callable[[float, Any], Any]:
    """Ctrl-C at this call."""

    def strike(calls: float, y: Any) -> Any:
        if calls == at:
            raise KeyboardInterrupt
        return y

    return strike


def breaking(after: int) -> Callable[[float, Any], Any]:
    """Data that are no numbers after this call."""
    return lambda calls, y: y * float("nan") if calls > after else y
