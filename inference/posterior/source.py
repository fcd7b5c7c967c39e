"""Draws of a posterior with the model and the data that they belong to, as an approximation that can be asked anything.

i ~ Uniform{1, ..., S},   z = z_i      the guide of predictions and likelihoods: one of S draws of all chains
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from ..inputs.labels import Labels
from ..pair.pair import Summed
from ..runtime.state import State
from .sample import sample
from .weighted_guide import WeightedGuide


class Source(NamedTuple):
    """Where draws come from."""

    model: Callable[..., Any]
    data: tuple[Any, ...]  # tensors on the CPU
    columns: tuple[list[str] | None, ...]  # the column names of an argument that was a table
    codes: Labels  # of text and categories, as in a fit
    state: State  # of the networks
    summed: Summed | None  # finite latents that were summed out, and drawn afterwards
    row_labels: tuple[list[Any] | None, ...] = ()  # the index of an argument that had one of its own


@dataclass(frozen=True, repr=False, eq=False)
class DrawsOfModel:
    """Draws as an approximation, see `posterior/approximation.py`. dtype: torch's default in which its model runs."""

    model: Callable[..., Any]
    guide: WeightedGuide
    data: tuple[Any, ...]
    columns: tuple[list[str] | None, ...]
    codes: Labels
    state: State
    summed: Summed | None
    dtype: torch.dtype
    followers: frozenset[str] = frozenset()
    row_labels: tuple[list[Any] | None, ...] = ()

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The model of a reference has no parameters."""
        return {}

    @property
    def reweighted(self) -> "DrawsOfModel":
        """The draws need no weights."""
        return self

    def sample(self, n: int = 1000, *, seed: int = 0) -> dict[str, torch.Tensor]:
        """n of the draws, with replacement: {site: shape (n, *shape of the site)}."""
        return sample(self, n, seed=seed)


def as_approximation(source: Source, draws: dict[str, torch.Tensor]) -> DrawsOfModel:
    """The draws {site: shape (S, *shape of the site)} of all latents of a model as an approximation.

    Finite latents that were summed out are drawn again when they are wanted, given the others and the data.
    """
    summed = frozenset() if source.summed is None else source.summed.sites
    values = {name: value for name, value in draws.items() if name not in summed}
    n = len(next(iter(values.values())))
    wide = [v.dtype for v in values.values() if v.is_floating_point()]
    guide = WeightedGuide(values, torch.full((n,), -math.log(n), dtype=torch.float64))
    dtype = wide[0] if wide else torch.get_default_dtype()
    found = DrawsOfModel(
        source.model, guide, source.data, source.columns, source.codes, source.state, source.summed, dtype
    )
    return replace(found, row_labels=source.row_labels)
