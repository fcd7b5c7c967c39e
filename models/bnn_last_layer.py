"""Bayesian last layer: the body of a network is trained, the weights of its last linear layer are latents.

    phi_n   = what the last layer gets for row n, (H,);  the body's weights theta are parameters
    W       ~ N(0, s^2 / H),  b ~ N(0, s^2)
    f_n     = W phi_n + b,   n = 1..N

    one output    y_n ~ N(mean y + sd y f_n, sigma^2)        sigma: a parameter, x standardised as in `bnn_regression`
    C outputs     y_n ~ Categorical(softmax(f_n))

-ELBO is a bound on -log p(y | theta, sigma, s), with the prior theta ~ N(0, t^2 / fan-in) as its penalty: theta, sigma
and s are found by the evidence, and the penalty keeps the body from fitting the features to the rows. At a trained body
a regression is jointly normal, so `credo.exact` has its posterior, and `credo.compare(fit)` says how far the guide is
from it. One pass of the body then predicts without draws (`credo.treatments.one_pass`):

    one output    mean  m . a_n,  variance  a_n' S a_n + sigma^2,      a_n = (phi_n, 1)        Bishop 2006, eq. 3.58
    C outputs     E softmax(f_n), f_n ~ N(M a_n, diag(a_n' S_c a_n)), by quadrature

Sources: Harrison, Willes and Snoek 2024 (Variational Bayesian last layers, arXiv:2404.11599); Snoek et al. 2015
(Scalable Bayesian optimization using deep neural networks, section 3) for regression.

Data: handwritten digits of 8 by 8 pixels, which ship with scikit-learn; a net with one hidden layer of 100 ReLUs.
"""

import math

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import nn

from ._digits import digits, labelled
from ._nets import categorical, fan_in, outputs, perceptron, weights_of
from ._units import as_numbers, standardised, units

BODY_SD = 1.0  # of the body, in units of 1 / sqrt(fan-in)
START = -1.0  # of log(sigma / sd y)


def model(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor | None = None,
    *,
    prior_sd: float | None = None,
    body_sd: float = BODY_SD,
    noise: float | None = None,
) -> torch.Tensor:
    """net: ends in a linear layer of one output for numbers, of C for classes. x: (N, ...). y: (N,), None to predict.

    prior_sd, body_sd: of the last layer and of the body, in units of 1 / sqrt(fan-in); None: the parameter `prior_sd`,
    found by the evidence. noise: sigma in the units of y, where it is known. Returns the mean of y, shape (N,), or the
    probabilities, (N, C); sites `mean` or `probs`.
    Raises ValueError for a net without a last linear layer, for data that do not fit it, and for numbers that are all
    the same, without `noise`: the evidence grows without bound as sigma falls.
    """
    path, last = last_linear(net)
    for name, value in (("prior_sd", prior_sd), ("body_sd", body_sd), ("noise", noise)):
        if value is not None and (isinstance(value, bool | str) or not 0 < value < math.inf):
            raise ValueError(f"{name}: got {value!r}, wanted a positive number")
    weights = {name: w for name, w in weights_of(net).items() if not _within(name, path)}
    body = {name: pyro.param(f"net$$${name}", w) for name, w in weights.items()}
    if body:
        penalty = torch.stack([0.5 * fan_in(w) * w.square().sum() for w in body.values()]).sum() / body_sd**2
        pyro.factor("body", -penalty)
    if prior_sd is None:
        like = last.weight.detach()
        scale = pyro.param("prior_sd", lambda: like.new_ones(()), constraint=constraints.positive)
    else:
        scale = last.weight.new_tensor(prior_sd)
    head = {}
    for name, w in last.named_parameters():
        head[site_of(path, name)] = pyro.sample(site_of(path, name), _prior(w, scale / fan_in(w) ** 0.5))
    if last.out_features > 1:
        return categorical(_ending_in(last, net, body | head, x), x, y)
    mean_y, sd_y = units("y", x.new_zeros(1) if y is None else as_numbers(y, len(x)), y is not None)
    f = _ending_in(last, net, body | head, standardised(x))
    if f.shape not in ((len(x),), (len(x), 1)):
        raise ValueError(f"net: its output has shape {tuple(f.shape)} for x of shape {tuple(x.shape)}, wanted (N, 1)")
    mean = pyro.deterministic("mean", mean_y + sd_y * f.reshape(-1))
    if noise is None:
        sigma = pyro.param("sigma", lambda: _start(y, sd_y), constraint=constraints.positive)
    else:
        sigma = mean.new_tensor(noise)
    with pyro.plate("N", len(x)):
        pyro.sample("y", dist.Normal(mean, sigma), obs=None if y is None else y.to(mean.dtype))
    return mean


def data(table: pd.DataFrame | None = None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y): the training digits, x (1437, 64), or a table with the classes in column `y`."""
    x, y, classes = labelled(table)
    return perceptron(x.shape[1], classes), x, y


def held_out(net: nn.Module, *_: torch.Tensor) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """(net, x, y) for the 360 held-out digits."""
    return net, *digits()[2:]


def last_linear(net: nn.Module) -> tuple[str, nn.Linear]:
    """(its name, the last linear layer of a network). ValueError for what is no network or has no such layer."""
    found = [(name, m) for name, m in net.named_modules() if isinstance(m, nn.Linear)] if _is_net(net) else []
    if not found:
        raise ValueError(f"net: got {type(net).__name__}, wanted a torch.nn.Module whose last layer is an nn.Linear")
    return found[-1]


def _start(y: torch.Tensor | None, unit: torch.Tensor) -> torch.Tensor:
    """Where sigma starts, in the units of y."""
    if y is not None and bool((y == y[:1]).all()):
        raise ValueError(
            f"y: got {float(y[0]):g} in all of its {len(y)} rows, which say nothing of the noise: its evidence grows "
            f"without bound as the sd falls to 0; wanted rows that differ, or `noise`, the sd in the units of y, by "
            f"functools.partial"
        )
    return unit.detach() * math.exp(START)


def _ending_in(last: nn.Linear, net: nn.Module, weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """net(x) with these weights. Raises ValueError unless that is what `last` returns, or the same numbers reshaped."""
    seen: list[torch.Tensor] = []
    hook = last.register_forward_hook(lambda layer, inputs, out: seen.append(out))
    try:
        f = outputs(net, weights, x)
    finally:
        hook.remove()
    reshaped = len(seen) == 1 and f.shape != seen[0].shape and f.numel() == seen[0].numel()
    if len(seen) != 1 or not (f is seen[0] or reshaped):
        raise ValueError(
            "net: its output is not what its last nn.Linear returns, so the last layer is not known; register the head "
            "after all other layers, and return logits or the mean, without a softmax or other function after it"
        )
    return f


def site_of(path: str, name: str) -> str:
    """The name of a parameter of the layer at this path, which is that of its site."""
    return f"{path}.{name}" if path else name


def _prior(w: torch.Tensor, sd: torch.Tensor) -> dist.TorchDistribution:
    """N(0, sd^2) of every entry. Of a matrix as one normal for each row: torch has the KL of a row's normal from it."""
    if w.dim() < 2:
        return dist.Normal(torch.zeros_like(w), sd).to_event(w.dim())
    return dist.MultivariateNormal(torch.zeros_like(w), scale_tril=sd * torch.eye(w.shape[1]).to(w)).to_event(1)


def _is_net(net: object) -> bool:
    return isinstance(net, nn.Module)


def _within(name: str, path: str) -> bool:
    return name.rpartition(".")[0] == path
