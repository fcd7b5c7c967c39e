"""Bayesian last layer: a trained network, whose last linear layer is then given its posterior, one normal an output.

    a_n = (phi_n, 1): the features of row n,   f_n = W a_n,   W ~ N(0, s^2 / H), the bias N(0, s^2)

    numbers   W | y: the exact posterior given the features; s and the noise sigma maximise the evidence. The body is
              trained by the bound of the pair `bnn_last_layer` on it; that of classes as the plain network
    classes   q(W) = prod_c N(w_c; m_c, S_c): the optimum of the bound
              E_q log p(y | W) - KL(q || p) (`softmax_layer.py`; Harrison, Willes and Snoek 2024, arXiv:2404.11599)

One pass of the network predicts.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from credo.inference.runtime.defaults import choose_device
from credo.models.bnn_last_layer import last_linear
from credo.pairs import load
from credo.treatments.evidence import best, gaussian_evidence
from credo.treatments.likelihood import START, Likelihood, likelihood
from credo.treatments.mean_field import fit_within
from credo.treatments.normal_logits import expected_softmax
from credo.treatments.one_pass import features
from credo.treatments.points import train
from credo.treatments.softmax_layer import ROWS, Last, best_normal
from credo.treatments.treatment import Budget, Trained


def last_layer(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget) -> Trained:
    """The network with a Bayesian last layer. One pass predicts. Of classes: weight decay 1/N, a standard normal prior.

    x: shape (N, ...). y: shape (N,), classes as integers, or numbers as floating point for a network of one output.
    Raises ValueError for a network that does not end in a linear layer, for one of two outputs for numbers, and for
    numbers that are all the same, which say nothing of the noise: their evidence grows without bound as sigma falls.
    """
    device = choose_device(budget.device)
    _, last = last_linear(net)
    if y.is_floating_point() and last.out_features != 1:
        raise ValueError(
            f"net: got {last.out_features} outputs for numbers, wanted one: with the noise as an output the last layer "
            f"has no closed form; use nn.Linear({last.in_features}, 1)"
        )
    if y.is_floating_point():
        net = _body_by_evidence(net, x, y, budget).to(device).requires_grad_(False)
        likely = likelihood(net, x.to(device), y.to(device))
    else:
        likely, net, _ = train(net, x, y, budget, weight_decay=1 / len(x))
    found = fitted(net, likely, x.to(device), y.to(device))
    what = "log evidence of the exact last layer" if not likely.classes else "the bound of a Bayesian last layer"
    words = f"{what} given the features {found.bound:,.1f} nats, prior sd {float(found.scale):.2g}"
    if not found.at_rest:
        words += "; its steps ended before they came to rest"

    def predict(x: torch.Tensor, draws: int) -> torch.Tensor:
        with torch.no_grad():
            a, _ = features(net, likely.inputs(x.to(device)))
            mean, variance = moments(a, found)
            if likely.classes:
                return expected_softmax(mean, variance)[None]
            centre, unit = likely.of_y
            sd = unit * (variance[:, 0] + found.noise**2).sqrt()
            return torch.stack([centre + unit * mean[:, 0], sd], -1)[None]

    size = found.loc.shape[1]
    numbers = sum(p.numel() for p in (*net.parameters(), *net.buffers())) + len(found.loc) * size * (size + 1) // 2
    return Trained(predict, numbers, words)


def _body_by_evidence(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget) -> nn.Module:
    """The network trained by the pair `bnn_last_layer`, whose ELBO is tight for numbers."""
    pair = load("bnn_last_layer")
    return fit_within(budget, pair.model, pair.guide, net, x, y).trained(net)


def fitted(net: nn.Module, likely: Likelihood, x: torch.Tensor, y: torch.Tensor) -> Last:
    """The posterior of the last layer of a trained network given the features of all rows."""
    _, layer = last_linear(net)
    shape = prior_shape(layer)
    with torch.no_grad():
        a = torch.cat([features(net, likely.inputs(rows))[0] for rows in x.split(ROWS)])
    if likely.classes:
        start = layer.weight.detach()
        start = start if layer.bias is None else torch.cat([start, layer.bias.detach()[:, None]], 1)
        return best_normal(a, y, shape, start)
    return exact(a, (y - likely.of_y[0]) / likely.of_y[1], shape)


def moments(a: torch.Tensor, last: Last) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each output, both (N, C). a: features, (N, D)."""
    pieces = [(a @ root).square().sum(-1) for root in last.root]  # one output at a time, to bound the memory
    return a @ last.loc.mT, torch.stack(pieces, -1)


def prior_shape(layer: nn.Linear) -> torch.Tensor:
    """The sds of the prior of a row of the last layer in units of s, shape (D,): 1 / sqrt(H), and 1 for the bias."""
    sds = layer.weight.detach().new_full((layer.in_features,), layer.in_features**-0.5)
    return sds if layer.bias is None else functional.pad(sds, (0, 1), value=1.0)


def exact(a: torch.Tensor, y: torch.Tensor, shape: torch.Tensor) -> Last:
    """The posterior of y ~ N(a w, sigma^2), w ~ N(0, (s shape)^2), at the s and sigma of the largest evidence.

    a: (N, D). y: (N,). In double precision inside. Source: Bishop 2006, eq. 3.53-3.54 and section 3.5.
    """
    of, sds = y.double(), shape.double()
    least = math.log(torch.finfo(a.dtype).eps)  # of log sigma: features and y are known to that precision alone
    gram, cross = sds.new_zeros(len(sds), len(sds)), sds.new_zeros(len(sds))
    for rows, target in zip(a.split(ROWS), of.split(ROWS), strict=True):
        scaled = rows.double() * sds
        gram += scaled.mT @ scaled
        cross += scaled.mT @ target
    values, vectors = torch.linalg.eigh(gram)
    values, along = values.clamp(min=0), vectors.mT @ cross
    evidence = gaussian_evidence(values, along, of.square().sum(), len(of))

    def rounded(logs: torch.Tensor) -> torch.Tensor:
        return evidence(torch.stack([logs[0], logs[1].clamp(min=least)]))

    (log_scale, log_noise), found = best(rounded, of.new_tensor([0.0, START]))
    log_noise = log_noise.clamp(min=least)
    precision = values / (2 * log_noise).exp() + (-2 * log_scale).exp()
    mean = sds * (vectors @ (along / precision)) / (2 * log_noise).exp()
    root = sds[:, None] * vectors * precision.rsqrt()
    loc, roots, scale, noise = (v.to(a.dtype) for v in (mean[None], root[None], log_scale.exp(), log_noise.exp()))
    return Last(loc, roots, scale, noise, found)
