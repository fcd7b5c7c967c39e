"""Dropout as approximate Bayes: the weights are points, and the masks are drawn, from their prior or a learnt rate.

    q(w, keep) = Delta(w - m) prod_j Bernoulli(keep_j; 1 - r)          m starts at the network's own weights

r fixed at the prior's rate: the masks have no parameters and their KL is zero (Gal and Ghahramani 2016, eq. 8).

r learnt, one number for each layer: the ELBO weighs the fit of the data against sum_j KL(Bernoulli(1 - r) ||
Bernoulli(1 - rate)), counted once however many the rows. That KL alone keeps r from 0, since a point has no KL of its
own: with more rows r falls, as a posterior narrows (Gal, Hron and Kendall 2017, arXiv:1705.07832, section 4).
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
    shared: bool = True,
    learn: bool = False,
) -> None:
    """net: its parameters are the latents. rate, shared: as in the model. x: its rows are counted. y, prior_sd: unused.

    learn: whether the rate of each layer is a parameter, which starts at `rate`.
    Raises ValueError for a rate outside [0, 1), and for a rate to be learnt with a mask for each row, whose KL counts
    once a row and so holds the rate at the prior's.
    """
    if learn and not shared:
        raise ValueError(
            "learn: a mask for each row counts its KL once a row, which holds the rate at the prior's whatever the "
            "data; pass shared=True to the model and the guide"
        )
    shares = rates_of(net, rate)
    rows = pyro.plate("N", len(x), dim=-1)
    for name, w in weights_of(net).items():
        point(name, w)
        if name in shares:
            keep = masks(w, name, shares[name], learn, (w.shape[1],))
            if shared:
                pyro.sample(f"{name}.keep", keep)
            else:
                with rows:
                    pyro.sample(f"{name}.keep", keep)


def rates(params: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    """A table of learnt rates: a row for each layer, column rate. params: `fit.params`. Empty where rates are fixed."""
    return learnt_rates(params)
