"""The data that a posterior belongs to, by observed site."""

import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistribution

from credo.inference.distributions.unwrap import unwrapped
from credo.inference.exact.closed_form import Exact
from credo.inference.exact.precision import in_double
from credo.inference.mcmc.result import Reference
from credo.inference.pair.masked import mask_of
from credo.inference.posterior.marginals import model_trace
from credo.inference.runtime.defaults import default_dtype
from credo.inference.runtime.sites import observed
from credo.inference.runtime.state import reading
from credo.inference.variational.result import Fit

Posterior = Fit | Exact | Reference


def observations(of: Posterior) -> dict[str, tuple[TorchDistribution, torch.Tensor]]:
    """{observed site: (its distribution, the data)}, the data on the CPU, NaN where a mask leaves it out.

    Raises ValueError for a reference that was made by hand, without its model.
    """
    found = {}
    for name, site in observed(_trace(of)).items():
        values, mask = site["value"].detach().cpu(), mask_of(site)
        if mask is not None and not mask.all():
            values = torch.where(mask.cpu(), values.double(), torch.nan)
        found[name] = (unwrapped(site["fn"]), values)
    return found


def _trace(of: Posterior) -> poutine.Trace:
    """The trace of the model on its data, at one draw."""
    if isinstance(of, Reference):
        with default_dtype(of.approximation.dtype):
            return model_trace(of.approximation)
    if isinstance(of, Exact):
        with reading(of.state, 0), in_double(of.narrow), torch.no_grad():
            return poutine.trace(of.model).get_trace(*of.data)
    return model_trace(of)
