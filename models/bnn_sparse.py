"""Sparse variational dropout: a log-uniform prior under which weights that the data does not need can be pruned.

    p(w_i) ∝ 1 / |w_i|                  log-uniform, improper, for each weight; biases N(0, 10^2)
    y_n    ~ Categorical(softmax(net(x_n; w))),   n = 1..N

With q(w_i) = N(theta_i, sigma_i^2) and alpha = sigma^2 / theta^2 the KL divergence depends on alpha alone, and

    -KL(q || p) ≈ k1 sigmoid(k2 + k3 log alpha) - 1/2 log(1 + 1 / alpha) - k1

up to a constant, chosen so that KL falls to 0 as alpha grows: a weight that is only noise costs nothing (Molchanov,
Ashukha and Vetrov 2017, arXiv:1701.05369, eq. 14; Kingma, Salimans and Welling 2015 for the prior).

Data: handwritten digits of 8 by 8 pixels, which ship with scikit-learn; a net with one hidden layer of 100 ReLUs.
"""

from typing import Any, ClassVar

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import constraints, register_kl

from ._digits import digits, labelled
from ._nets import categorical, is_matrix, outputs, perceptron, weights_of

K1, K2, K3 = 0.63576, 1.8732, 1.48695
BIAS_SD = 10.0
CLIP = 8.0  # log alpha is clamped to ± this in the KL, as published: the prior does not act on a weight below it


Shape = torch.Size | list[int] | tuple[int, ...]


class LogUniform(dist.TorchDistribution):
    """p(w) ∝ 1 / |w| over the real numbers: flat in log |w|. It is improper, so it has no draws."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.real

    def __init__(self, shape: Shape = ()) -> None:
        super().__init__(torch.Size(shape), validate_args=False)

    def expand(self, batch_shape: Shape, _instance: Any = None) -> "LogUniform":
        return LogUniform(batch_shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """-log |w|, up to the constant that an improper density leaves open."""
        return -value.abs().log()

    def sample(self, sample_shape: Shape = ()) -> torch.Tensor:
        raise NotImplementedError(
            "p(w) ∝ 1 / |w| is improper: there is nothing to draw from; take the guide of the same name, and no prior "
            "predictive"
        )


@register_kl(dist.Normal, LogUniform)
def kl(q: dist.Normal, p: LogUniform) -> torch.Tensor:
    """The published approximation of KL(q || p) in nats, shape of q; see the formula at the top of this file."""
    # 1e-16 is far below the smallest float32 square that matters; it keeps the gradient at 0 finite.
    log_alpha = (2 * q.scale.log() - (q.loc**2 + 1e-16).log()).clamp(-CLIP, CLIP)
    return K1 - K1 * torch.sigmoid(K2 + K3 * log_alpha) + 0.5 * nn.functional.softplus(-log_alpha)


def model(net: nn.Module, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """net: takes x, gives (N, C). x: shape (N, ...). y: (N,), or None to predict. Returns probabilities, (N, C)."""
    weights = {}
    for name, w in weights_of(net).items():
        prior = LogUniform(w.shape) if is_matrix(w) else dist.Normal(torch.zeros_like(w), BIAS_SD)
        weights[name] = pyro.sample(name, prior.to_event(w.dim()))
    return categorical(outputs(net, weights, x), x, y)


def data(table: pd.DataFrame | None = None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y): the training digits, x (1437, 64), or a table with the classes in column `y`."""
    x, y, classes = labelled(table)
    return perceptron(x.shape[1], classes), x, y


def held_out(net: nn.Module, *_: torch.Tensor) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y) for the 360 held-out digits."""
    return net, *digits()[2:]
