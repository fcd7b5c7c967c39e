"""Bayesian neural network: every weight of a classifier is a latent.

    w_name ~ N(0, s^2 / fan-in)         for each weight of the net; biases N(0, s^2)
    y_n    ~ Categorical(softmax(net(x_n; w))),   n = 1..N

Sources: Neal 1996 (Bayesian Learning for Neural Networks, section 2.1, for the scaling of the prior); Blundell et al.
2015 (Weight Uncertainty in Neural Networks, eq. 1) for the fit. Prediction averages over draws of the weights,

    p(y* | x*, data) = E_q(w)[softmax(net(x*; w))]
    H[E p]           = E H[p] + I(y*; w)                entropy: aleatoric + epistemic (Depeweg et al. 2018)

Data: handwritten digits of 8 by 8 pixels, which ship with scikit-learn; a net with one hidden layer of 100 ReLUs.
"""

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ._digits import digits, labelled
from ._nets import categorical, fan_in, outputs, perceptron, weights_of

PRIOR_SD = 10.0  # in units of 1 / sqrt(fan-in): with a narrower prior the posterior predictive is never sure


def model(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor | None = None, *, prior_sd: float = PRIOR_SD
) -> torch.Tensor:
    """net: takes x, gives (N, C). x: shape (N, ...). y: (N,), or None to predict. Returns probabilities, (N, C)."""
    weights = {}
    for name, w in weights_of(net).items():
        prior = dist.Normal(torch.zeros_like(w), prior_sd / fan_in(w) ** 0.5)
        weights[name] = pyro.sample(name, prior.to_event(w.dim()))
    return categorical(outputs(net, weights, x), x, y)


def data(table: pd.DataFrame | None = None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y): the training digits, x (1437, 64), or a table with the classes in column `y`."""
    x, y, classes = labelled(table)
    return perceptron(x.shape[1], classes), x, y


def held_out(net: nn.Module, *_: torch.Tensor) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y) for the 360 held-out digits."""
    return net, *digits()[2:]
