"""The joint posterior of all latents as one multivariate normal, where every block is normal.

cov(z_i, z_j) = 0  for sites of different blocks
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch

from .mixture import Component


def joint(marginals: Mapping[str, Any], components: Sequence[Component]) -> Any:
    """The joint distribution of all latents: the marginal of a single site, one MultivariateNormal, or None."""
    if len(marginals) == 1:
        return next(iter(marginals.values()))
    if len(components) != 1 or not marginals:
        return None
    parts = [(list(block.marginals), block.gaussian()) for block in components[0].blocks]
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
