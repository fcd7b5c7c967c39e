"""Densities written out, and the joint density of a model at a point, for tests that hold one against the other."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import nn

NODES, WEIGHTS = (torch.tensor(a) for a in np.polynomial.hermite_e.hermegauss(80))


def log_normal(value: torch.Tensor, sd: float) -> torch.Tensor:
    """log N(value; 0, sd^2), summed over all entries."""
    return (-0.5 * (value / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)).sum()


def log_softmax_at(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """log p(y_n) of each row from logits of shape (..., N, C), shape (..., N)."""
    p = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return p[..., torch.arange(len(y)), y].log()


def drawn_like(net: nn.Module) -> dict[str, torch.Tensor]:
    """Some value for each parameter of a network, by its name."""
    return {name: torch.randn_like(w) for name, w in net.named_parameters()}


def log_joint(model: Callable[..., Any], z: Mapping[str, torch.Tensor], *data: Any) -> float:
    """log p(data, z), nats. z: a value for every latent of the model; asserts that there is no other."""
    trace = poutine.trace(poutine.condition(model, z)).get_trace(*data)
    assert set(z) <= set(trace.nodes)
    assert [name for name in trace.stochastic_nodes if name != "N"] == []  # N: the plate's own index
    return trace.log_prob_sum().item()


def averaged(f: Callable[[torch.Tensor], torch.Tensor], loc: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """E[f(w)] for w ~ N(loc, scale^2), scalars, by Gauss-Hermite quadrature; f takes and gives shape (nodes,)."""
    return (WEIGHTS * f(loc + scale * NODES)).sum() / math.sqrt(2 * math.pi)
