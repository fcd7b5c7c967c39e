"""Dropout as approximate Bayes: the weights are points, and the masks are drawn, from their prior or a learnt rate.

    q(w, keep) = Delta(w - m) prod_j Bernoulli(keep_j; 1 - r)          m starts at the network's own weights

r fixed at the prior's rate: the masks have no parameters and their KL is zero (Gal and Ghahramani 2016, eq. 8).

r learnt, one number for each layer:

    -ELBO = -Σ_n E_q log p(y_n | w, keep) - log p(w) + Σ_j KL_j
    KL_j = (1 - r) log((1 - r) / (1 - rate)) + r log(r / rate)         for each input j, once however many the rows

Gal, Hron and Kendall 2017 (arXiv:1705.07832, eq. 3-4) have |w|^2 (1 - r) / 2 in place of log p(w) and -H(r) in place of
KL_j: up to a constant KL_j is that entropy term for a rate of 1/2. Here a point has no KL of its own, so KL_j alone
keeps r from 0: with more rows r falls, as a posterior narrows. They relax masks to numbers between 0 and 1, which
biases the gradient of r. Here masks are 0 or 1, and no estimator that a plan names for them is biased: each unit tried
at its other value ("one-flip") up to 256 units, else the score function with a baseline.
`once=True` with `shared=False` draws masks for each row and averages their KL over the rows: the same -ELBO, of a
gradient whose variance falls with the rows of a batch.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyro
import torch
from torch import nn

from ._masks import Rate, counted, learnt_rates, masks, rates_of
from ._nets import point, weights_of


def guide(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    rate: Rate = 0.1,
    prior_sd: float = 10.0,
    shared: bool = True,
    once: bool = False,
    learn: bool = False,
) -> None:
    """net: its parameters are the latents. rate, shared, once: as in the model. x: its rows are counted.

    y, prior_sd: not used.

    learn: whether the rate of each layer is a parameter, which starts at `rate`.
    Raises ValueError for a rate outside [0, 1), and for a rate to be learnt with a mask for each row, whose KL counts
    once a row and so holds the rate at the prior's, unless `once`.
    """
    if learn and not shared and not once:
        raise ValueError(
            "learn: a mask for each row counts its KL once a row, which holds the rate at the prior's whatever the "
            "data; pass shared=True to the model and the guide, or once=True to both"
        )
    shares = rates_of(net, rate)
    rows = pyro.plate("N", len(x), dim=-1)
    said: Any = {"counts_once": once}  # Pyro's type of these settings knows its own keys alone
    for name, w in weights_of(net).items():
        point(name, w)
        if name in shares:
            keep = masks(w, name, shares[name], learn, (w.shape[1],))
            if shared:
                pyro.sample(f"{name}.keep", keep)
            else:
                with rows, counted(x, once):
                    pyro.sample(f"{name}.keep", keep, infer=said)


def rates(params: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    """A table of learnt rates: a row for each layer, column rate. params: `fit.params`. Empty where rates are fixed."""
    return learnt_rates(params)
