"""The data that a fit was fitted to, by observed site."""

import torch
from pyro.distributions.torch_distribution import TorchDistribution

from credo.inference.distributions.unwrap import unwrapped
from credo.inference.pair.masked import mask_of
from credo.inference.posterior.marginals import model_trace
from credo.inference.runtime.sites import observed
from credo.inference.variational.result import Fit


def observations(fit: Fit) -> dict[str, tuple[TorchDistribution, torch.Tensor]]:
    """{observed site: (its distribution, the data)}, the data on the CPU, NaN where a mask leaves it out."""
    found = {}
    for name, site in observed(model_trace(fit)).items():
        values, mask = site["value"].detach().cpu(), mask_of(site)
        if mask is not None and not mask.all():
            values = torch.where(mask.cpu(), values.double(), torch.nan)
        found[name] = (unwrapped(site["fn"]), values)
    return found
