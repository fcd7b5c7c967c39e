"""Bayesian last layer: one normal for the weights of each output, with all covariances.

    q(W, b) = prod_c N(b_c; m_c, s_c^2) N(w_c; u_c + (b_c - m_c) r_c, L_c L_c')

    u_c, m_c start at the network's own last layer, s_c and the diagonal of L_c at START, r_c at zero

For numbers the posterior given the body is such a normal, so the bound is tight at its optimum. For classes this is
the family of Harrison, Willes and Snoek 2024 (arXiv:2404.11599, section 3.2).
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import nn

from ._nets import START


def guide(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    prior_sd: float | None = None,
    body_sd: float = 1.0,
    noise: float | None = None,
) -> None:
    """net: its last linear layer has the latents. x, y, prior_sd, body_sd, noise: not used.

    Raises ValueError for a net without a linear layer.
    """
    found = (
        [pair for pair in net.named_modules() if isinstance(pair[1], nn.Linear)] if isinstance(net, nn.Module) else []
    )
    if not found:
        raise ValueError(f"net: got {type(net).__name__}, wanted a torch.nn.Module whose last layer is an nn.Linear")
    path, last = found[-1]
    prefix = f"{path}." if path else ""
    w = last.weight.detach()
    outputs, inputs = w.shape
    loc = pyro.param(f"{prefix}weight.loc", w.clone())  # (C, H)
    eye = START * torch.eye(inputs, dtype=w.dtype, device=w.device)
    factor = pyro.param(  # (C, H, H)
        f"{prefix}weight.factor", lambda: eye.repeat(outputs, 1, 1), constraint=constraints.lower_cholesky
    )
    if last.bias is not None:
        centre = pyro.param(f"{prefix}bias.loc", last.bias.detach().clone())  # (C,)
        sd = pyro.param(f"{prefix}bias.scale", torch.full_like(centre, START), constraint=constraints.softplus_positive)
        slope = pyro.param(f"{prefix}weight.slope", torch.zeros_like(w))  # (C, H), the regression of w_c on b_c
        bias = pyro.sample(f"{prefix}bias", dist.Normal(centre, sd).to_event(1))
        loc = loc + slope * (bias - centre)[:, None]
    pyro.sample(f"{prefix}weight", dist.MultivariateNormal(loc, scale_tril=factor).to_event(1))
