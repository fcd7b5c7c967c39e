"""Distributions over finitely many values: their support, their marginals, their one-flip neighbours."""

from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import constraints

from .unwrap import kind, unwrapped


def values_of(fn: Any) -> int:
    """The number of values of each row, if the rows are independent and have the same values; else 0."""
    if not getattr(fn, "has_enumerate_support", False):
        return 0
    try:
        return len(fn.enumerate_support(expand=False))
    except NotImplementedError:  # rows that differ in their values, or are one event
        return 0


def one_flip_neighbours(fn: Any, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(the values that differ from this one in a single unit, shape (J, *value.shape), the probability of that unit's
    new value, shape (J, *batch)), for units of finite support: J is their number times that of other values.
    """
    base, units = unwrapped(fn), fn.event_shape.numel()
    support = base.enumerate_support(expand=False).flatten()
    index = index_of(value, support)
    one = torch.eye(units, dtype=torch.bool, device=value.device)
    one = one.reshape(units, *[1] * len(fn.batch_shape), *fn.event_shape)
    values, probabilities = [], []
    for shift in range(1, len(support)):
        other = support[(index + shift) % len(support)]
        q = base.log_prob(other).exp()
        values.append(torch.where(one, other, value))
        probabilities.append(q.reshape(*q.shape[: q.dim() - len(fn.event_shape)], units).movedim(-1, 0))
    return torch.cat(values), torch.cat(probabilities)


class Finite(dist.Categorical):
    """The distribution of finitely many numbers: values (K,) with probabilities (*batch, K)."""

    def __init__(self, values: torch.Tensor, probs: torch.Tensor) -> None:
        self.values = values
        super().__init__(probs=probs)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        ordered = self.values.sort().values
        whole = bool((self.values == self.values.round()).all()) and bool((ordered.diff() == 1).all())
        return constraints.integer_interval(ordered[0], ordered[-1]) if whole else constraints.real

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Finite":
        new = type(self).__new__(type(self)) if _instance is None else _instance
        new.values = self.values
        expanded: Finite = super().expand(torch.Size(batch_shape), _instance=new)
        return expanded

    def _indices(self, value: torch.Tensor) -> torch.Tensor:
        return index_of(value, self.values)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        inside = indicator(value, self.values).any(0)
        return torch.where(inside, super().log_prob(self._indices(value)), -torch.inf)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        return self.values[super().sample(torch.Size(sample_shape))]

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        values = self.values.reshape(-1, *[1] * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values

    @property
    def mean(self) -> torch.Tensor:
        return (self.probs * self.values).sum(-1)

    @property
    def variance(self) -> torch.Tensor:
        return (self.probs * (self.values - self.mean.unsqueeze(-1)) ** 2).sum(-1)


def support(fn: Any) -> torch.Tensor:
    """The values of each row of a finite distribution, (K, *event)."""
    values = fn.enumerate_support(expand=False)
    return values.reshape(len(values), *fn.event_shape)


def indicator(z: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Whether z is each of the values: booleans (K, *batch). z: (*batch, *event). values: (K, *event)."""
    events = values.dim() - 1
    same = z.unsqueeze(0) == values.reshape(len(values), *[1] * (z.dim() - events), *values.shape[1:])
    for _ in range(events):
        same = same.all(-1)
    return same


def index_of(z: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Which of the values z is: indices (*batch), 0 where it is none. z: (*batch, *event). values: (K, *event)."""
    return indicator(z, values).to(torch.int64).argmax(0)


def finite_marginal(fn: Any, values: torch.Tensor, probabilities: torch.Tensor) -> Any:
    """The marginal distribution of a site with these values, (K, *event), and probabilities, (K, *batch)."""
    probabilities = probabilities.double().clamp(min=0.0)
    probabilities = probabilities / probabilities.sum(0)
    if fn.event_shape:
        return dist.OneHotCategorical(probs=probabilities.movedim(0, -1))
    if kind(fn) == "Bernoulli":
        return dist.Bernoulli(probs=probabilities[1])
    return Finite(values.double(), probabilities.movedim(0, -1))
