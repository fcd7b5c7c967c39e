"""Dropout as approximate Bayes: the weights are points, and the masks are drawn from their prior.

    q(w, keep) = Delta(w - m) prod_j Bernoulli(keep_j; 1 - rate)          m starts at the network's own weights

The rate is fixed, so the masks have no parameters and their KL is zero (Gal and Ghahramani 2016, eq. 8).
"""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ._nets import point, weights_of


def guide(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor | None = None, *, rate: float = 0.1, prior_sd: float = 10.0
) -> None:
    """net: its parameters are the latents. rate: share of inputs left out, as in the model. x, y, prior_sd: not used.

    Raises ValueError for a rate outside [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate: got {rate}, wanted a share of inputs to leave out, at least 0 and below 1")
    for name, w in weights_of(net).items():
        point(name, w)
        if w.dim() > 1:
            pyro.sample(f"{name}.keep", dist.Bernoulli(w.new_full((w.shape[1],), 1 - rate)).to_event(1))
