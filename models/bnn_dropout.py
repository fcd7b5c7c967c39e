"""Dropout as approximate Bayes: the masks are latents, and their disagreement is the uncertainty of the network.

    w_name   ~ N(0, s^2 / fan-in)
    keep_j   ~ Bernoulli(1 - rate)            for each input j of each layer
    y_n      ~ Categorical(softmax(net(x_n; w_ij keep_j / (1 - rate)))),   n = 1..N

With the masks as latents and the weights as points, -ELBO is the dropout objective with weight decay: Gal and
Ghahramani 2016 (arXiv:1506.02142, eq. 9-10). Prediction with drawn masks is MC dropout, their eq. 6.

`shared=True`: all rows share a mask, so every draw is one network, and its rate can be learnt from the data.
`shared=False`: each row has masks of its own, keep_nj. At a fixed rate the ELBO is the same function of w, since it is
a sum over rows, and so is the predictive of each row; the gradient has less noise, since a batch averages over masks.
It is what libraries do in training. Another model nonetheless: under it, rows do not agree on the masks.
`shared=False, once=True`: each row has masks of its own, and log p(keep) is their average over the rows, 1/N Σ_n log
p(keep_n). The ELBO is then that of a shared mask at any rate, for it is a sum over rows plus one KL; so a rate can be
learnt with the smaller noise of masks drawn row by row.

Data: handwritten digits of 8 by 8 pixels, which ship with scikit-learn; a net with one hidden layer of 100 ReLUs.
"""

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ._digits import digits, labelled
from ._masks import Rate, counted, inputs_times, rates_of
from ._nets import categorical, fan_in, outputs, perceptron, weights_of

RATE = 0.1  # the share of inputs that are left out
PRIOR_SD = 10.0  # in units of 1 / sqrt(fan-in)


def model(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    rate: Rate = RATE,
    prior_sd: float = PRIOR_SD,
    shared: bool = True,
    once: bool = False,
) -> torch.Tensor:
    """net: takes x, gives (N, C). x: shape (N, ...). y: shape (N,), or None to predict. Returns probabilities, (N, C).

    rate: the share of inputs left out, of all layers or one for each weight matrix. shared: one mask for all rows.
    once: whether masks of each row count together as one, as in the guide; it changes nothing where masks are shared.
    Raises ValueError for a rate outside [0, 1), and with shared=False for layers other than linear and convolutions.
    """
    shares = rates_of(net, rate)
    rows = pyro.plate("N", len(x), dim=-1)
    weights, factors = {}, {}
    for name, w in weights_of(net).items():
        prior = dist.Normal(torch.zeros_like(w), prior_sd / fan_in(w) ** 0.5)
        weight = pyro.sample(name, prior.to_event(w.dim()))
        if name in shares:
            kept = 1 - shares[name]
            mask = dist.Bernoulli(w.new_full((w.shape[1],), kept)).to_event(1)
            if shared:
                keep = pyro.sample(f"{name}.keep", mask)
                weight = weight * keep.reshape(-1, *[1] * (w.dim() - 2)) / kept  # (out, in, ...)
            else:
                with rows, counted(x, once):
                    factors[name] = pyro.sample(f"{name}.keep", mask) / kept
        weights[name] = weight
    with inputs_times(net, factors):
        logits = outputs(net, weights, x)
    return categorical(logits, x, y, rows)


def data(table: pd.DataFrame | None = None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y): the training digits, x (1437, 64), or a table with the classes in column `y`."""
    x, y, classes = labelled(table)
    return perceptron(x.shape[1], classes), x, y


def held_out(net: nn.Module, *_: torch.Tensor) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y) for the 360 held-out digits."""
    return net, *digits()[2:]
