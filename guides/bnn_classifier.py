"""Bayesian neural network: an independent normal for every weight (Blundell et al. 2015, section 3.2).

q(w) = prod_i N(w_i; m_i, s_i^2)         m starts at the network's own weights
"""

from typing import Any

import torch
from torch import nn

from ._nets import START, normal, weights_of


def guide(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    prior_sd: Any = None,
    prior: Any = None,
    temperature: float = 1.0,
    sd: float = START,
) -> None:
    """net: its parameters are the latents. sd: of every weight before the first step.

    x, y, prior_sd, prior, temperature: as in the model, not used.
    """
    for name, weight in weights_of(net).items():
        normal(name, weight, sd)
