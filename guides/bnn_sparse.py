"""Sparse variational dropout: a normal for every weight in the additive parametrisation, and a table of pruned weights.

    q(w_i) = N(theta_i, sigma_i^2),   alpha_i = sigma_i^2 / theta_i^2;   biases are points

theta and log sigma^2 are the parameters, not alpha: the gradient of theta is then free of alpha's noise (Molchanov,
Ashukha and Vetrov 2017, section 4.1). Where log alpha reaches 3, a weight is 95 % noise and is set to zero (5.1).
"""

import copy
import math
from collections.abc import Mapping

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ._nets import point, weights_of

# log sigma^2 before the first step. The published KL is flat below log alpha = -8: the prior does not act on a weight
# that starts there, so a lower start keeps more weights and ends at a worse ELBO (docs/traps.md).
START = -11.1
THRESHOLD = 3.0  # a weight is pruned if its log alpha is at least this


def guide(net: nn.Module, x: torch.Tensor, y: torch.Tensor | None = None) -> None:
    """net: its parameters are the latents; theta starts at its own weights. x, y: not used."""
    for name, w in weights_of(net).items():
        if w.dim() <= 1:
            point(name, w)
            continue
        theta = pyro.param(f"{name}.theta", w.detach().clone())
        log_sigma2 = pyro.param(f"{name}.log_sigma2", torch.full_like(theta, START))
        pyro.sample(name, dist.Normal(theta, (0.5 * log_sigma2).exp()).to_event(w.dim()))


def report(params: Mapping[str, torch.Tensor], threshold: float = THRESHOLD) -> pd.DataFrame:
    """A table of pruned weights: a row for each weight of the net and a total; columns weights, kept, pruned (a share).

    params: `fit.params`. threshold: the log alpha at which a weight is pruned.
    """
    noise = _log_alpha(params)
    rows = {name: (a.numel(), int((a < threshold).sum())) for name, a in noise.items()}
    rows["total"] = (sum(n for n, _ in rows.values()), sum(kept for _, kept in rows.values()))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["weights", "kept"])
    table["pruned"] = 1 - table["kept"] / table["weights"]
    table.index.name = "layer"
    return table


def pruned(net: nn.Module, params: Mapping[str, torch.Tensor], threshold: float = THRESHOLD) -> nn.Module:
    """A copy of the net with the means as weights, and zeros where log alpha reaches the threshold."""
    thin = copy.deepcopy(net).eval()
    noise = _log_alpha(params)
    with torch.no_grad():
        for name, w in thin.named_parameters():
            if name in noise:
                w.copy_(params[f"{name}.theta"] * (noise[name] < threshold))
            elif f"{name}.value" in params:  # frozen parameters are not latents
                w.copy_(params[f"{name}.value"])
    return thin


def _log_alpha(params: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = [name.removesuffix(".log_sigma2") for name in params if name.endswith(".log_sigma2")]
    tiny = math.sqrt(torch.finfo(torch.float32).tiny)
    return {n: params[f"{n}.log_sigma2"] - 2 * params[f"{n}.theta"].abs().clamp_min(tiny).log() for n in names}
