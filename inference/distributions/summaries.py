"""Means, sds, quantiles and labels of the scalars of a site."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd
import torch

QUANTILES = (0.05, 0.5, 0.95)
Labels = Mapping[str, Sequence[Sequence[str] | None]]  # {site: for each dimension the labels of its entries}
EMPTY: Labels = {}
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


def as_table(
    found: dict[str, tuple[torch.Tensor, torch.Tensor]], draws: dict[str, torch.Tensor], labels: Labels = EMPTY
) -> pd.DataFrame:
    """A table with mean, sd and quantiles of each scalar. found: {site: (mean, sd)}. draws: {site: (n, *shape)}.

    labels: of the entries of each dimension of a site, as for `scalars`.
    """
    rows = {}
    for name, (mean, sd) in found.items():
        marks = quantiles(draws[name].double(), QUANTILES)
        for index, label in scalars(name, mean.shape, labels.get(name)):
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


def scalars(
    name: str, shape: torch.Size, labels: Sequence[Sequence[str] | None] | None = None
) -> list[tuple[tuple[int, ...], str]]:
    """(index, label) of each scalar of a site: p, theta[0], theta[1], ..., w[2,3].

    labels: for each dimension those of its entries, b[bmi], or None for numbers. Where the shape is another one,
    numbers stay.
    """
    if not shape:
        return [((), name)]
    words = [[str(i) for i in range(n)] for n in shape]
    if labels is not None and len(labels) == len(shape):
        words = [w if own is None or len(own) != len(w) else list(own) for w, own in zip(words, labels, strict=True)]
    indices = product(*(range(n) for n in shape))
    return [(index, f"{name}[{','.join(w[i] for w, i in zip(words, index, strict=True))}]") for index in indices]
