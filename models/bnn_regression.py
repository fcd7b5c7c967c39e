"""Bayesian neural network for regression: every weight is a latent, and so is the noise.

    w_name ~ N(0, s^2 / fan-in)         for each weight of the net; biases N(0, s^2)
    f_n    = net((x_n - mean x) / sd x; w),   n = 1..N

    one output    y_n ~ N(mean y + sd y f_n, sigma^2),   log(sigma / sd y) ~ N(-1, 1)           homoscedastic
    two outputs   y_n ~ N(mean y + sd y f_n1, sd_n^2),   sd_n = sd y (softplus(f_n2) + 0.001)   heteroscedastic

The means and sds of the columns are those of the data of the first call, kept beside the parameters, so the net sees
standardised numbers, whatever the units; `y`, `mean`, `sd` and `sigma` are in the units of y. They are `fit.params`
"x.mean", "x.sd", "y.mean", "y.sd": `fit.networks(net)` and `fit.trained(net)` by themselves take (x - x.mean) / x.sd.

s is a number, or sds of the layers that the evidence chooses: prior_sd="learnt" (empirical Bayes; MacKay 1992). With
the guide's sd=0.01 and `kl_warmup` of `credo.fit`, half of the steps, a mean-field posterior under-fits less: from a
wide start, with the whole KL at once, it switches hidden units off before they explain anything.

Sources: Neal 1996 (Bayesian Learning for Neural Networks, section 2.1) for the prior; Nix and Weigend 1994 and
Lakshminarayanan, Pritzel and Blundell 2017 (section 2.2.1) for the output that is the noise.

Data: diabetes progression of 442 patients from 10 measurements (Efron, Hastie, Johnstone and Tibshirani 2004), which
ships with scikit-learn; a net with one hidden layer of 50 ReLUs.
"""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.nn import functional

from ._bayesian import bayesian, by_fan_in
from ._digits import inputs
from ._nets import perceptron
from ._priors import Prior, PriorSd
from ._units import as_numbers, standardised, units

PRIOR_SD = 1.0  # in units of 1 / sqrt(fan-in)
LOG_NOISE = -1.0, 1.0  # mean and sd of log(sigma / sd y) under the prior: sigma is 0.05 to 2.6 sds of y
LEAST_SD = 1e-3  # of a row, in sds of y
HIDDEN = 50
TRAIN = 354  # rows of the diabetes data to learn from; the other 88 are held out


def model(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    prior_sd: PriorSd = None,
    prior: Prior | None = None,
    noise: float | None = None,
) -> torch.Tensor:
    """net: takes x, gives (N,), (N, 1), or (N, 2) for noise of each row. x: shape (N, ...), in any units.

    y: shape (N,), in any units, or None to predict. prior_sd: a number in units of 1 / sqrt(fan-in); "learnt", or what
    else `credo.nn.bayesian` takes; None: 1. prior: in its place, as there, and never beside it. noise: the sd of the
    noise in the units of y, where it is known; None: unknown. Returns the mean of y, (N,); sites `mean` and, for two
    outputs, `sd`, both (N,).
    """
    sd = by_fan_in(net, PRIOR_SD if prior_sd is None and prior is None else prior_sd)
    net_at_draws = bayesian(net, sd, prior=prior)
    mean_y, sd_y = units("y", x.new_zeros(1) if y is None else as_numbers(y, len(x)), y is not None)
    f = _checked_output(net_at_draws(standardised(x)), x, noise)
    mean = pyro.deterministic("mean", mean_y + sd_y * f[:, 0])
    if f.shape[1] == 2:
        sd = pyro.deterministic("sd", sd_y * (functional.softplus(f[:, 1]) + LEAST_SD))
    elif noise is None:
        sd = pyro.sample("sigma", dist.LogNormal(sd_y.log() + LOG_NOISE[0], LOG_NOISE[1]))
    else:
        sd = mean.new_tensor(noise)
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(mean, sd), obs=None if y is None else y.to(mean.dtype))
    return mean


def data(table: pd.DataFrame | None = None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y): 354 patients, x (354, 10), or a table whose column `y` is to be explained by all others."""
    if table is None:
        x, y = _diabetes()
        x, y = x[:TRAIN], y[:TRAIN]
    elif "y" not in table.columns:
        raise ValueError(f"the table has columns {list(table.columns)[:10]}; wanted a column 'y', to be explained")
    else:
        x, y = inputs(table.drop(columns="y")), inputs(table[["y"]])[:, 0]
    return perceptron(x.shape[1], 1, HIDDEN), x, y


def held_out(net: nn.Module, *_: torch.Tensor) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y) for the 88 held-out patients."""
    x, y = _diabetes()
    return net, x[TRAIN:], y[TRAIN:]


def _diabetes() -> tuple[torch.Tensor, torch.Tensor]:
    """x, shape (442, 10), and y, shape (442,), in an order that is the same on every machine (seed 0)."""
    from sklearn.datasets import load_diabetes

    columns = load_diabetes(return_X_y=True, scaled=False)
    order = np.random.RandomState(0).permutation(len(columns[1]))
    x, y = (torch.tensor(part[order], dtype=torch.get_default_dtype()) for part in columns)
    return x, y


def _checked_output(f: torch.Tensor, x: torch.Tensor, noise: float | None) -> torch.Tensor:
    """The network's output, shape (N, 1) or (N, 2)."""
    n = len(x)
    shape = tuple(f.shape) if isinstance(f, torch.Tensor) else f"of a {type(f).__name__}"
    if shape not in ((n,), (n, 1), (n, 2)):
        raise ValueError(
            f"net: its output has shape {shape} for x of shape {tuple(x.shape)}, wanted ({n}, 1), the mean of y, or "
            f"({n}, 2), the mean and the noise"
        )
    if noise is not None and (f.shape == (n, 2) or isinstance(noise, bool | str) or not noise > 0):
        raise ValueError(
            f"noise: got {noise!r} for an output of shape {shape}, wanted the sd of the noise, a positive number in "
            f"the units of y, for a net with one output; None where it is unknown"
        )
    return f.reshape(n, -1)
