"""Errors about numbers, which another draw may not raise: what runs before the first step is tried at other draws."""

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")
NUMERIC = (ValueError, ArithmeticError, AssertionError, torch.linalg.LinAlgError)
TRIES = 5


def at_other_draws(compute: Callable[[int], T]) -> T:
    """What `compute(try)` returns for the first of 0, 1, ... at which it raises no error about numbers.

    The same error twice depends on no draw, so it is raised at once; so is the first error of TRIES different ones.
    """
    errors: list[Exception] = []
    while len(errors) < TRIES:
        try:
            return compute(len(errors))
        except NUMERIC as error:
            errors.append(error)
            if len(errors) > 1 and str(error) == str(errors[-2]):
                break
        except Exception:
            if not errors:
                raise
            break  # the first try left something behind that this one met
    raise errors[0]
