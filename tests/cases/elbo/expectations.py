"""Expectations under a guide without draws: closed forms of normals, quadrature, sums. Double precision, in nats."""

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints as c
from torch.nn.functional import logsigmoid

Params = Mapping[str, torch.Tensor]
Y = torch.tensor([1.3, 0.2, 2.0])


def param(name: str, value: Any, constraint: Any = c.real) -> torch.Tensor:
    """A parameter of a pair that starts at this value, in the dtype of the run."""
    return pyro.param(name, torch.as_tensor(value, dtype=torch.get_default_dtype()), constraint=constraint)


def positive(name: str, value: Any) -> torch.Tensor:
    return param(name, value, c.positive)


def observe(y: torch.Tensor, mean: Any, scale: Any = 1.0) -> None:
    """y ~ N(mean, scale), row by row."""
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(mean, scale), obs=y)


def log_normal(x: Any, mean: Any, scale: Any = 1.0, variance: Any = 0.0) -> torch.Tensor:
    """E[log N(x; m, scale)] over m (or x) of this mean and variance, entry by entry."""
    scale = torch.as_tensor(scale, dtype=torch.float64)
    return -0.5 * ((x - mean) ** 2 + variance) / scale**2 - scale.log() - 0.5 * math.log(2 * math.pi)


def entropy(scale: torch.Tensor) -> torch.Tensor:
    """Of a normal: log(scale sqrt(2 pi e))."""
    return scale.log() + 0.5 * math.log(2 * math.pi * math.e)


def coin(logit: torch.Tensor, value: Any) -> torch.Tensor:
    """log Bernoulli(value; logit)."""
    value = torch.as_tensor(value, dtype=torch.float64)
    return value * logsigmoid(logit) + (1 - value) * logsigmoid(-logit)


def coin_of(probability: float, value: Any) -> torch.Tensor:
    """log Bernoulli(value; probability)."""
    return coin(torch.tensor(probability, dtype=torch.float64).logit(), value)


def corners(n: int, k: int = 2) -> torch.Tensor:
    """All vectors of n values out of 0 .. k - 1, shape (k^n, n)."""
    return torch.tensor(list(product(range(k), repeat=n)), dtype=torch.float64)


def hermite(mean: Any, scale: Any, n: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """(points, weights) of Gauss and Hermite for N(mean, scale), shape (n,) behind that of the mean."""
    nodes, weights = map(torch.as_tensor, np.polynomial.hermite_e.hermegauss(n))
    return mean[..., None] + scale[..., None] * nodes, weights / weights.sum()


def mean_under(q: Any, f: Callable[[torch.Tensor], torch.Tensor], low: float, high: float) -> torch.Tensor:
    """E_q[f(z)] by the trapezoid rule between two ends; f may have kinks, and q sees all of the gradient."""
    z = torch.linspace(low, high, 20_001, dtype=torch.float64)
    return torch.trapezoid(q.log_prob(z).exp() * f(z), z)


class Case(NamedTuple):
    """A pair whose ELBO is known exactly, as a function of the constrained parameters by name."""

    model: Callable[..., Any]
    guide: Callable[..., Any]
    elbo: Callable[[Params], torch.Tensor]
    plans: tuple[Mapping[str, str], ...] = ()  # overrides to be tried besides none
    particles: int | None = 80  # None: as many as credo takes by itself
    n: int = 32  # gradients, of so many particles each
    data: tuple[torch.Tensor, ...] = (Y,)
