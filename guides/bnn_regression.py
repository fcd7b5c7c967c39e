"""Bayesian neural network for regression: an independent normal for every weight, a log-normal for the noise.

    q(w, sigma) = prod_i N(w_i; m_i, s_i^2) LogNormal(sigma; m, s^2)       m_i starts at the network's own weights

A network of two outputs has the noise of each row as its second, and no sigma. Source: Blundell et al. 2015 (Weight
Uncertainty in Neural Networks, section 3.2).
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import nn

from ._nets import START, normal, weights_of


def guide(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    prior_sd: object = None,
    prior: object = None,
    noise: float | None = None,
    sd: float = START,
) -> None:
    """net: its parameters are the latents. x: its first rows show how many outputs the net has.

    y: shape (N,), where the noise starts: at a third of its sd. noise: as in the model. sd: of every weight before the
    first step; 0.01 with a rising weight of the KL (`kl_warmup` of `credo.fit`) starts near the best plain network,
    where 0.05 may hide what a few hundred rows say. prior_sd, prior: not used.
    """
    for name, weight in weights_of(net).items():
        normal(name, weight, sd)
    if noise is None and _outputs(net, x) == 1:
        loc = pyro.param("sigma.loc", lambda: _log_sd(x if y is None else y) - 1)
        scale = pyro.param("sigma.scale", lambda: torch.full_like(loc, START), constraint=constraints.softplus_positive)
        pyro.sample("sigma", dist.LogNormal(loc, scale))


def _outputs(net: nn.Module, x: torch.Tensor) -> int:
    """How many outputs the net has; 1 for rows that it does not take, which the model refuses with a remedy."""
    rows = x[:2] if x.is_floating_point() else x[:2].to(torch.get_default_dtype())
    try:
        with torch.no_grad():
            shape = net(rows).shape
    except RuntimeError as error:
        if not any(word in str(error) for word in ("shape", "size", "channels")):
            raise
        return 1
    return int(shape[1]) if len(shape) > 1 else 1


def _log_sd(y: torch.Tensor) -> torch.Tensor:
    y = y if y.is_floating_point() else y.to(torch.get_default_dtype())
    sd = y.std(correction=0)
    return torch.where(sd > 0, sd, 1.0).log()
