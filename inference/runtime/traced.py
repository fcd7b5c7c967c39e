"""Traces of programs, also of those that differentiate inside of themselves (`torch.autograd.grad`, `backward`)."""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine


def traced(program: Callable[..., Any], data: tuple[Any, ...]) -> poutine.Trace:
    """A trace of the program on the data.

    Where gradients are off, a program that differentiates inside of itself fails; it is run again with gradients on.
    """
    try:
        return poutine.trace(program).get_trace(*data)
    except RuntimeError as error:
        if torch.is_grad_enabled() or "does not require grad" not in str(error):
            raise
    with torch.enable_grad():
        return poutine.trace(program).get_trace(*data)


def first_line(error: Exception) -> str:
    """The first line of what an error says, for a message about it; its type if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
