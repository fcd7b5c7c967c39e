"""The other functions of the file that a function was written in: a model's `posterior`, `data`, `held_out`."""

import functools
import sys
from collections.abc import Callable
from typing import Any


def beside(function: Callable[..., Any], name: str) -> Callable[..., Any] | None:
    """The function called `name` in the file of `function`; None if that file has none.

    A functools.partial stands for the function that it calls.
    """
    while isinstance(function, functools.partial):
        function = function.func
    found = getattr(sys.modules.get(getattr(function, "__module__", "")), name, None)
    return found if callable(found) else None
