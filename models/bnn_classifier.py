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
import torch
from torch import nn

from ._bayesian import by_fan_in, draw_weights
from ._digits import digits, labelled
from ._nets import categorical, outputs, perceptron
from ._priors import Prior, PriorSd

PRIOR_SD = 10.0  # in units of 1 / sqrt(fan-in)


def model(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    prior_sd: PriorSd = None,
    prior: Prior | None = None,
    temperature: float = 1.0,
) -> torch.Tensor:
    """net: takes x, gives (N, C). x: shape (N, ...). y: (N,), or None to predict. Returns probabilities, (N, C).

    prior_sd: a number in units of 1 / sqrt(fan-in); "learnt", or what else `credo.nn.bayesian` takes; None: 10, in
    these units. prior: in its place, as there, and never beside it. temperature: T of p(w) p(y | x, w)^(1/T), positive;
    only at 1 is that the posterior.
    """
    sd = by_fan_in(net, PRIOR_SD if prior_sd is None and prior is None else prior_sd)
    weights = draw_weights(net, sd, prior=prior)
    return categorical(outputs(net, weights, x), x, y, temperature=temperature)


def data(table: pd.DataFrame | None = None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y): the training digits, x (1437, 64), or a table with the classes in column `y`."""
    x, y, classes = labelled(table)
    return perceptron(x.shape[1], classes), x, y


def held_out(net: nn.Module, *_: torch.Tensor) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y) for the 360 held-out digits."""
    return net, *digits()[2:]
