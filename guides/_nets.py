"""Guides over the weights of a network: one site for each parameter, with the parameter's name."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import nn


def weights_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """The network's parameters by name, one latent site each, except frozen ones (requires_grad=False).

    Raises ValueError for an argument that is not a network or has no such parameters.
    """
    parameters = net.named_parameters() if isinstance(net, nn.Module) else ()
    weights: dict[str, torch.Tensor] = {name: w for name, w in parameters if w.requires_grad}
    if not weights:
        raise ValueError(f"net: got {type(net).__name__}, wanted a torch.nn.Module with parameters that are not frozen")
    return weights


def normal(name: str, weight: torch.Tensor, sd: float) -> torch.Tensor:
    """A draw from q(w) = N(loc, scale^2), independent; loc starts at the network's own weight, scale at sd."""
    loc = pyro.param(f"{name}.loc", weight.detach().clone())
    scale = pyro.param(f"{name}.scale", torch.full_like(loc, sd), constraint=constraints.softplus_positive)
    return pyro.sample(name, dist.Normal(loc, scale).to_event(weight.dim()))


def point(name: str, weight: torch.Tensor) -> torch.Tensor:
    """A point estimate, q(w) = Delta(value); value starts at the network's own weight."""
    value = pyro.param(f"{name}.value", weight.detach().clone())
    return pyro.sample(name, dist.Delta(value).to_event(weight.dim()))
