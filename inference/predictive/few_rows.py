"""A fit by batches of many rows, as predictions at new rows need it: few of its rows stand for all.

Its steps saw batches, so latents that all rows share do not depend on which rows are given; nor do latents of new rows,
where predictions are the same with other rows, and with more, in the place of the data.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ..inputs.arguments import to_predict
from ..pair.batches import cut, rows_of
from ..posterior.approximation import Approximation
from ..runtime.generators import noise
from ..storage.absent import Absent, free_of
from ..streaming.some_rows import MANY

FEW, NEW = 37, 8  # rows of the fit that stay, and of new rows at which it is asked


def on_few_rows(fit: Any, new: tuple[Any, ...], ask: Callable[[Any, tuple[Any, ...]], Any]) -> Approximation:
    """The fit with few rows as its data, if predictions at these new arguments are the same; else the fit.

    ask: predictions of a fit at new arguments, a few draws.
    """
    found: Approximation = fit
    if getattr(fit, "batch_size", None) is None or isinstance(fit.data, Absent):
        return found
    positions, n = rows_of(fit.data)
    given = [v for i, v in enumerate(new) if i in positions and isinstance(v, torch.Tensor) and v.dim()]
    fewest, most = min(map(len, given), default=0), max(map(len, given), default=0)
    if n <= MANY or not 0 < fewest == most < n or any(n in p.shape for p in fit.params.values()):
        return found
    with noise(0):  # no first rows, as which new data might begin
        order = torch.randperm(n)
    first = FEW + (fewest == FEW)
    one, two = (cut(fit.data, positions, index) for index in (order[:first], order[first : 3 * first]))
    few = to_predict(cut(new, positions, slice(0, NEW)), fit.data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        free = free_of({"predict": lambda data, at: ask(replace(fit, data=data), at)}, one, two, few)
    return replace(fit, data=one) if free else found
