"""DropConnect as approximate Bayes: the weights are points, and a mask for each is drawn, of a fixed or learnt rate.

    q(w, keep) = Delta(w - m) prod_ij Bernoulli(keep_ij; 1 - r)          m starts at the network's own weights

r fixed at the prior's rate: the masks have no parameters and their KL is zero. r learnt, one number for each layer: the
KL of the masks, which counts once however many the rows, holds it near the prior's rate (see `bnn_dropout`). A layer
has thousands of masks, so the gradient of r is the score function's, which is noisy.
"""

from collections.abc import Mapping

import pandas as pd
import pyro
import torch
from torch import nn

from ._masks import Rate, learnt_rates, masks, rates_of
from ._nets import point, weights_of


def guide(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    rate: Rate = 0.1,
    prior_sd: float = 10.0,
    learn: bool = False,
) -> None:
    """net: its parameters are the latents. rate: share of weights left out, as in the model. x, y, prior_sd: not used.

    learn: whether the rate of each layer is a parameter, which starts at `rate`.
    Raises ValueError for a rate outside [0, 1).
    """
    shares = rates_of(net, rate)
    for name, w in weights_of(net).items():
        point(name, w)
        if name in shares:
            pyro.sample(f"{name}.keep", masks(w, name, shares[name], learn, tuple(w.shape)))


def rates(params: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    """A table of learnt rates: a row for each layer, column rate. params: `fit.params`. Empty where rates are fixed."""
    return learnt_rates(params)
