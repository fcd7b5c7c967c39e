"""Dropout as approximate Bayes: the masks are latents, and their disagreement is the uncertainty of the network.

    w_name   ~ N(0, s^2 / fan-in)
    keep_j   ~ Bernoulli(1 - rate)            for each input j of each layer
    y_n      ~ Categorical(softmax(net(x_n; w_ij keep_j / (1 - rate)))),   n = 1..N

With the masks as latents and the weights as points, -ELBO is the dropout objective with weight decay: Gal and
Ghahramani 2016 (arXiv:1506.02142, eq. 9-10). Prediction with drawn masks is MC dropout, their eq. 6; all rows share a
mask, so every draw is one network.

Data: handwritten digits of 8 by 8 pixels, which ship with scikit-learn; a net with one hidden layer of 100 ReLUs.
"""

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ._digits import digits, labelled
from ._nets import categorical, fan_in, is_matrix, outputs, perceptron, weights_of

RATE = 0.1  # the share of inputs that are left out
PRIOR_SD = 10.0  # in units of 1 / sqrt(fan-in)


def model(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    rate: float = RATE,
    prior_sd: float = PRIOR_SD,
) -> torch.Tensor:
    """net: takes x, gives (N, C). x: shape (N, ...). y: shape (N,), or None to predict. Returns probabilities, (N, C).

    Raises ValueError for a rate outside [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate: got {rate}, wanted a share of inputs to leave out, at least 0 and below 1")
    weights = {}
    for name, w in weights_of(net).items():
        prior = dist.Normal(torch.zeros_like(w), prior_sd / fan_in(w) ** 0.5)
        weight = pyro.sample(name, prior.to_event(w.dim()))
        if is_matrix(w):
            keep = pyro.sample(f"{name}.keep", dist.Bernoulli(w.new_full((w.shape[1],), 1 - rate)).to_event(1))
            weight = weight * keep.reshape(-1, *[1] * (w.dim() - 2)) / (1 - rate)  # (out, in, ...)
        weights[name] = weight
    return categorical(outputs(net, weights, x), x, y)


def data(table: pd.DataFrame | None = None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y): the training digits, x (1437, 64), or a table with the classes in column `y`."""
    x, y, classes = labelled(table)
    return perceptron(x.shape[1], classes), x, y


def held_out(net: nn.Module, *_: torch.Tensor) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y) for the 360 held-out digits."""
    return net, *digits()[2:]
