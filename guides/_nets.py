"""Guides over the weights of a network: one site for each parameter, with the parameter's name."""

import functools
import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import nn

START = 0.05  # sd of every weight before the first step


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


def mean_field(net: nn.Module, sd: float = START, *, name: str = "") -> Callable[..., dict[str, torch.Tensor]]:
    """A guide over the weights of a network: an independent normal for each, the latents of `credo.nn.bayesian(net)`.

        q(w) = prod_i N(w_i; loc_i, scale_i^2)      loc starts at the network's own weights, scale at sd

    A function of any data, which it does not use: `credo.fit(model, credo.nn.mean_field(net), x, y)`. Returns the
    draws, {parameter: value}, so that a guide over more latents can call it: `credo.nn.mean_field(net)()`. Parameters
    are `0.weight.loc` and `0.weight.scale` for the parameter `0.weight`, both of its shape.

    net, name: as for `credo.nn.bayesian`. sd: positive, before the first step; with few rows wide noise can hide the
        data, and 0.01 may find a better optimum.
    Raises ValueError for what is no network with parameters to draw, and for another sd.
    Source: Blundell et al. 2015 (Weight Uncertainty in Neural Networks, section 3.2).

    >>> import torch
    >>> guide = credo.nn.mean_field(torch.nn.Linear(2, 1))
    >>> {site: tuple(w.shape) for site, w in guide().items()}
    {'weight': (1, 2), 'bias': (1,)}
    """
    weights_of(net)
    if isinstance(sd, bool) or not isinstance(sd, (int, float)) or not 0 < sd < math.inf:
        raise ValueError(f"sd: got {sd!r}, wanted a positive number: the sd of each weight before the first step")
    return functools.partial(_normals, net, sd, name)


def _normals(net: nn.Module, sd: float, name: str, /, *data: Any, **named: Any) -> dict[str, torch.Tensor]:
    prefix = f"{name}." if name else ""
    return {parameter: normal(prefix + parameter, weight, sd) for parameter, weight in weights_of(net).items()}
