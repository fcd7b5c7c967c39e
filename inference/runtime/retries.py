"""Errors about numbers, which another draw may not raise: what runs before the first step is tried at other draws."""

from collections.abc import Callable
from typing import TypeVar

import torch

from .probes import is_credos
from .vectorise import is_out_of_memory

T = TypeVar("T")
NUMERIC = (ValueError, ArithmeticError, AssertionError, torch.linalg.LinAlgError)
AT_ONCE = (NotImplementedError, RecursionError)  # RuntimeErrors that depend on no draw
TRIES = 5


def at_other_draws(compute: Callable[[int], T]) -> T:
    """What `compute(try)` returns for the first of 0, 1, ... at which it raises no error about numbers.

    The same error of credo's own twice depends on no draw, so it is raised at once. After TRIES errors the first is
    raised: a Cholesky factor fails with the same words at different draws.
    """
    errors: list[Exception] = []
    while len(errors) < TRIES:
        try:
            return compute(len(errors))
        except (*NUMERIC, RuntimeError) as error:
            if isinstance(error, AT_ONCE) or is_out_of_memory(error):
                if not errors:
                    raise
                break
            errors.append(error)
            if len(errors) > 1 and str(error) == str(errors[-2]) and is_credos(error):
                break
        except Exception:
            if not errors:
                raise
            break  # the first try left something behind that this one met
    raise errors[0]
