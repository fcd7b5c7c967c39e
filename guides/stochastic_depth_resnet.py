"""Depth of a residual network: a probability for each number of layers, a free parameter or computed from the input.

    q(z) = Categorical(logits)                     one depth for the network
    q(z_n | x_n) = Categorical(chooser(x_n))       one for each input

The first family contains the exact posterior given the weights.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import nn


def guide(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    rate: float = 1.0,
    chooser: nn.Module | None = None,
) -> torch.Tensor:
    """net: its number of blocks matters. x: shape (N, ...). chooser: as in the model. y, rate: not used. Returns z."""
    blocks = dict(net.named_children()).get("blocks") if isinstance(net, nn.Module) else None
    if blocks is None:
        raise ValueError(
            f"net: got {type(net).__name__}, wanted a torch.nn.Module with the modules stem, blocks, head, as "
            f"attributes or as an nn.ModuleDict; it lacks blocks"
        )
    depths = len(list(blocks.children())) + 1
    if chooser is None:
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        logits = pyro.param("logits", torch.zeros(depths, dtype=dtype, device=x.device))
        return pyro.sample("z", dist.Categorical(logits=logits))
    pyro.module("chooser", chooser)
    logits = chooser(x)
    if logits.shape != (len(x), depths):
        raise ValueError(
            f"chooser: gives shape {tuple(logits.shape)} for {len(x)} rows, wanted ({len(x)}, {depths}): a logit "
            f"for each number of blocks from 0"
        )
    with pyro.plate("N", len(x)):
        return pyro.sample("z", dist.Categorical(logits=logits))
