"""A model with a setting, and its `posterior` beside it."""

from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import torch

from . import normal_mean


def model(y: torch.Tensor, prior_mean: float = 0.0) -> None:
    z = pyro.sample("z", dist.Normal(prior_mean, 2.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def posterior(y: torch.Tensor, prior_mean: float = 0.0) -> SimpleNamespace:
    return normal_mean.answer(y, prior_mean)
