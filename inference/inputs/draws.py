"""The number of draws of a prediction, which may be left out: `predict(x)`, `predict(100, x)`, `predict(x, n=100)`."""

from typing import Any

import numpy as np
import torch
from torch import nn

from .arguments import number_of_draws, shown

DRAWS = 1000
NUMBERS = (bool, float, complex, str, bytes, np.bool_, np.inexact)  # no data of a model, and no number of draws


def draws_and_data(
    call: str, given: tuple[Any, ...], n: int | None = None, least: int = 1, fitted: tuple[Any, ...] = ()
) -> tuple[int, tuple[Any, ...]]:
    """(the number of draws, the data) of a call: a whole number in the first place is the number of draws.

    given: what was passed by position. n: what was passed by name; then all that is given is data.
    Without either, the number is 1,000. call: its name, for messages. least: the smallest number.
    fitted: the data of the fit, which tell a number of draws from data: a number is no data where the fit has rows.
    Raises ValueError for a number below `least`, for one that is not whole, for two numbers, and for a text in its
    place.
    """
    first = given[0] if given else None
    rows = bool(fitted) and (
        isinstance(fitted[0], nn.Module) or (isinstance(fitted[0], torch.Tensor) and fitted[0].dim() > 0)
    )
    if rows and n is not None and isinstance(first, (int, np.integer)) and not isinstance(first, bool):
        raise ValueError(
            f"n: got two numbers of draws, {first} in the first place and n={shown(n)}; leave one of them out"
        )
    if n is not None:
        return number_of_draws(call, n, least), given
    if rows and isinstance(first, (torch.Tensor, np.ndarray)) and first.ndim == 0:
        value = first.item()
        example = value if isinstance(value, int) else DRAWS
        raise ValueError(
            f"n: got {shown(first)}, wanted a whole number of draws, or data; pass int(n), as in {call}({example})"
        )
    if not given or not (isinstance(first, (int, np.integer, *NUMBERS))):
        return DRAWS, given
    if isinstance(first, NUMBERS) and not isinstance(first, (bool, str)):
        raise ValueError(
            f"n: got {shown(first)}, wanted a whole number of draws; if it is data, give the number by name: "
            f"{call}({shown(first)}, n={DRAWS})"
        )
    return number_of_draws(call, first, least), given[1:]
