"""Means, sds, quantiles and labels of the scalars of a site."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pandas as pd
import torch

QUANTILES = (0.05, 0.5, 0.95)
LONGEST = 20  # scalars of a site that follows from the latents (a deterministic one), above which no table shows it


def mean_and_sd(fn: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, sd) of each scalar of a distribution, in double precision; of a finite one by a sum over its values."""
    probabilities = masses(fn)
    if probabilities is None:
        return fn.mean.double(), fn.variance.double().sqrt()
    values = fn.enumerate_support(expand=False).double()  # (K, 1, ..., 1)
    mean = (probabilities * values).sum(0)
    return mean, (probabilities * (values - mean) ** 2).sum(0).sqrt()


def masses(fn: Any) -> torch.Tensor | None:
    """The probability of each value, shape (K, *batch shape); None for a distribution that is not finite."""
    if not getattr(fn, "has_enumerate_support", False) or fn.event_shape:
        return None
    return fn.log_prob(fn.enumerate_support(expand=False)).double().exp()


def as_table(found: dict[str, tuple[torch.Tensor, torch.Tensor]], draws: dict[str, torch.Tensor]) -> pd.DataFrame:
    """A table with mean, sd and quantiles of each scalar. found: {site: (mean, sd)}. draws: {site: (n, *shape)}."""
    rows = {}
    for name, (mean, sd) in found.items():
        marks = quantiles(draws[name].double(), QUANTILES)
        for index, label in scalars(name, mean.shape):
            shown = {f"{q:.0%}": marks[i][index].item() for i, q in enumerate(QUANTILES)}
            rows[label] = {"mean": mean[index].item(), "sd": sd[index].item(), **shown}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "site"
    return table


def quantiles(draws: torch.Tensor, probabilities: Sequence[float]) -> torch.Tensor:
    """The quantiles of draws (n, *shape) at K probabilities, shape (K, *shape): order statistics, not interpolated.

    By sorting: torch.quantile is limited to 16 million elements.
    """
    ordered = draws.sort(dim=0).values
    return torch.stack([ordered[round(q * (len(draws) - 1))] for q in probabilities])


def scalars(name: str, shape: torch.Size) -> list[tuple[tuple[int, ...], str]]:
    """(index, label) of each scalar of a site: p, theta[0], theta[1], ..., w[2,3]."""
    if not shape:
        return [((), name)]
    return [(index, f"{name}[{','.join(map(str, index))}]") for index in product(*(range(n) for n in shape))]
