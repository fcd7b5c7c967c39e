"""DropConnect as approximate Bayes: each weight is kept or left out, and which ones is a latent.

    w_ij     ~ N(0, s^2 / fan-in)
    keep_ij  ~ Bernoulli(1 - rate)            for each weight of each layer, not for biases
    y_n      ~ Categorical(softmax(net(x_n; w_ij keep_ij / (1 - rate)))),   n = 1..N

Sources: Wan, Zeiler, Zhang, LeCun and Fergus 2013 (Regularization of Neural Networks using DropConnect, section 3);
as variational inference, Gal 2016 (Uncertainty in Deep Learning, section 3.2.1) and Mobiny et al. 2021. Wan et al.
predict by a normal with the moments of a layer's inputs; here predictions are averaged over drawn masks. All rows
share a mask, so every draw is one network; a mask for each row would cost a copy of the weights for each.

Data: handwritten digits of 8 by 8 pixels, which ship with scikit-learn; a net with one hidden layer of 100 ReLUs.
"""

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ._digits import digits, labelled
from ._masks import Rate, rates_of
from ._nets import categorical, fan_in, outputs, perceptron, weights_of

RATE = 0.1  # the share of weights that are left out
PRIOR_SD = 10.0  # in units of 1 / sqrt(fan-in)


def model(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    rate: Rate = RATE,
    prior_sd: float = PRIOR_SD,
) -> torch.Tensor:
    """net: takes x, gives (N, C). x: shape (N, ...). y: shape (N,), or None to predict. Returns probabilities, (N, C).

    rate: the share of weights left out, of all layers or one for each weight matrix.
    Raises ValueError for a rate outside [0, 1).
    """
    shares = rates_of(net, rate)
    weights = {}
    for name, w in weights_of(net).items():
        prior = dist.Normal(torch.zeros_like(w), prior_sd / fan_in(w) ** 0.5)
        weights[name] = pyro.sample(name, prior.to_event(w.dim()))
        if name in shares:
            kept = 1 - shares[name]
            mask = dist.Bernoulli(torch.full_like(w, kept)).to_event(w.dim())
            weights[name] = weights[name] * pyro.sample(f"{name}.keep", mask) / kept
    return categorical(outputs(net, weights, x), x, y)


def data(table: pd.DataFrame | None = None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y): the training digits, x (1437, 64), or a table with the classes in column `y`."""
    x, y, classes = labelled(table)
    return perceptron(x.shape[1], classes), x, y


def held_out(net: nn.Module, *_: torch.Tensor) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y) for the 360 held-out digits."""
    return net, *digits()[2:]
