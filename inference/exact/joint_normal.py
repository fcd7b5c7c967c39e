"""Jointly normal vectors: of all latents of a posterior, and given some of their numbers.

x | y ~ N(mu_x + S_xy S_yy^-1 (y - mu_y),  S_xx - S_xy S_yy^-1 S_yx)      (Bishop 2006, eq. 2.81-2.82)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch

from .mixture import Component


def joint(marginals: Mapping[str, Any], components: Sequence[Component]) -> Any:
    """The one distribution of all latents, or None; see `Exact.joint`."""
    if len(marginals) == 1:
        return next(iter(marginals.values()))
    if len(components) != 1 or not marginals:
        return None
    parts = [(list(belief.marginals), belief.gaussian()) for belief in components[0].beliefs]
    start, places = 0, {}
    for name, fn in marginals.items():
        places[name] = torch.arange(start, start + fn.mean.numel())
        start += fn.mean.numel()
    mean, covariance = torch.zeros(start, dtype=torch.float64), torch.zeros(start, start, dtype=torch.float64)
    for names, part in parts:
        if part is None:
            return None
        at = torch.cat([places[name] for name in names])
        mean[at], covariance[at[:, None], at] = part
    return dist.MultivariateNormal(mean, covariance)
