"""Weighted draws of a posterior as a guide: all that can be asked of a fit can then be asked of them.

i ~ Categorical(w),   z = z_i
"""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch

NAME = "_draw"  # of the auxiliary site that picks one


class WeightedGuide:
    """A guide that draws one of S draws of all latents, each with its weight.

    values: {site: (S, *shape of the site)}. log_weights: (S,), normalised.
    """

    def __init__(self, values: dict[str, torch.Tensor], log_weights: torch.Tensor) -> None:
        self.values, self.log_weights = values, log_weights

    def __call__(self, *data: Any) -> None:
        """Samples each latent as a point, whatever the data."""
        picked = dist.Categorical(logits=self.log_weights, validate_args=False)
        i = pyro.sample(NAME, picked, infer={"is_auxiliary": True})
        _points({name: values.index_select(0, i.reshape(1))[0] for name, values in self.values.items()})

    def joint_draws(self, n: int) -> dict[str, torch.Tensor]:
        """n draws at once, {site: (n, *shape of the site)}."""
        i = torch.multinomial(self.log_weights.exp(), n, replacement=True)
        return {name: values[i] for name, values in self.values.items()}

    def moments(self) -> dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """{site: (mean, sd, standard error of the mean)}, by all weighted draws."""
        return {name: errors(values.double(), self.log_weights) for name, values in self.values.items()}

    def holding(self, values: dict[str, torch.Tensor]) -> Callable[..., None]:
        """A guide that has one of the `joint_draws`, without its weight."""
        return held_points(values)


def held_points(values: dict[str, torch.Tensor]) -> Callable[..., None]:
    """A guide that has these values of its latents in every draw."""
    return lambda *data: _points(values)


def _points(values: dict[str, torch.Tensor]) -> None:
    for name, value in values.items():
        pyro.sample(name, dist.Delta(value, event_dim=value.dim()))


def errors(values: torch.Tensor, log_weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(means, sds, standard errors of the means) of values (S, *shape) with normalised log weights (S,).

    The error is that of self-normalised importance sampling, by the delta method (Owen 2013, eq. 9.9).
    """
    weights = log_weights.exp().to(values.dtype)
    flat = values.reshape(len(values), -1)
    mean = weights @ flat
    away = (flat - mean).square()
    parts = (mean, (weights @ away).sqrt(), (weights.square() @ away).sqrt())
    mean, sd, error = (part.reshape(values.shape[1:]) for part in parts)
    return mean, sd, error
