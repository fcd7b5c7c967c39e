"""The number of draws of a prediction, which may be left out: `predict(x)`, `predict(100, x)`, `predict(x, n=100)`."""

from typing import Any

import numpy as np

from .arguments import number_of_draws, shown

DRAWS = 1000
NUMBERS = (bool, float, complex, str, bytes, np.bool_, np.inexact)  # no data of a model, and no number of draws


def draws_and_data(
    call: str, given: tuple[Any, ...], n: int | None = None, least: int = 1
) -> tuple[int, tuple[Any, ...]]:
    """(the number of draws, the data) of a call: a whole number in the first place is the number of draws.

    given: what was passed by position. n: what was passed by name; then all that is given is data.
    Without either, the number is 1,000. call: its name, for messages. least: the smallest number.
    Raises ValueError for a number below `least`, for one that is not whole, and for a text in its place.
    """
    if n is not None:
        return number_of_draws(call, n, least), given
    first = given[0] if given else None
    if not given or not (isinstance(first, (int, np.integer, *NUMBERS))):
        return DRAWS, given
    if isinstance(first, NUMBERS) and not isinstance(first, (bool, str)):
        raise ValueError(
            f"n: got {shown(first)}, wanted a whole number of draws; if it is data, give the number by name: "
            f"{call}({shown(first)}, n={DRAWS})"
        )
    return number_of_draws(call, first, least), given[1:]
