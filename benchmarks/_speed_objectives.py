"""The objectives of speed.py by hand, as somebody without Pyro writes them in plain torch.

    -ELBO = E_q[log q(z) - log p(x, z)]      nats; one draw of z, and log q at that draw

Each takes the parameters (constrained, by name) and the data, and returns (the estimate of -ELBO, a scalar with its
gradient). Everything here is differentiable by autograd and can be captured as one graph.
"""

import math

import torch
import torch.nn.functional as F
from _speed_programs import DEPTHS, NOISE, RATE, Params

Pair = tuple[torch.Tensor, torch.Tensor]
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def coin(p: Params, flips: torch.Tensor) -> Pair:
    a, b = p["a"], p["b"]
    first, second = torch._standard_gamma(torch.stack([a, b])).unbind()  # Beta by two Gammas, implicitly differentiated
    heads = (first / (first + second)).clamp(1e-7, 1 - 1e-7)
    yes, no = heads.log(), (-heads).log1p()
    log_q = (a - 1) * yes + (b - 1) * no - (a.lgamma() + b.lgamma() - (a + b).lgamma())
    prior = yes + no + math.log(6.0)  # Beta(2, 2)
    loss = log_q - prior - (flips * yes + (1 - flips) * no).sum()
    return loss, loss


def regression(p: Params, x: torch.Tensor, y: torch.Tensor) -> Pair:
    e = torch.randn_like(p["m"])
    theta = p["m"] + p["L"] @ e
    # log q at the draw: its quadratic form is that of the noise, whatever the parameters
    log_ratio = (theta**2 - e**2).sum() / 2 - p["L"].diagonal().log().sum()
    fit = -(((y - x @ theta) / NOISE) ** 2).sum() / 2 - len(y) * (math.log(NOISE) + HALF_LOG_2PI)
    return log_ratio - fit, log_ratio - fit


def network(p: Params, x: torch.Tensor, y: torch.Tensor) -> Pair:
    w, log_ratio = {}, x.new_zeros(())
    for name in ("w1", "b1", "w2", "b2"):
        loc, scale = p[f"{name}.loc"], p[f"{name}.scale"]
        e = torch.randn_like(loc)
        w[name] = loc + scale * e
        log_ratio = log_ratio + ((w[name] ** 2 - e**2) / 2 - scale.log()).sum()
    logits = F.relu(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"]
    loss = log_ratio + F.cross_entropy(logits, y, reduction="sum")
    return loss, loss


def vae(p: Params, x: torch.Tensor) -> Pair:
    mean, log_sd = _two_layers(p, "encoder", x).chunk(2, -1)
    e = torch.randn_like(mean)
    z = mean + log_sd.exp() * e
    log_ratio = ((z**2 - e**2) / 2 - log_sd).sum()
    loss = log_ratio + F.binary_cross_entropy_with_logits(_two_layers(p, "decoder", z), x, reduction="sum")
    return loss, loss


def enumerated(p: Params, x: torch.Tensor, y: torch.Tensor) -> Pair:
    """The exact sum over z."""
    log_q = p["q"].log_softmax(-1)
    costs = torch.stack([F.cross_entropy(logits, y, reduction="sum") for logits in _depths(p, x)])
    loss = (log_q.exp() * (log_q - _prior(x) + costs)).sum()
    return loss, loss


def scored(p: Params, x: torch.Tensor, y: torch.Tensor) -> Pair:
    """One draw of z, its gradient by the score function (Williams 1992), without a baseline."""
    log_q = p["q"].log_softmax(-1)
    z = (log_q.detach().exp().cumsum(-1) < torch.rand((), dtype=x.dtype)).sum().clamp(max=DEPTHS - 1)
    logits = torch.stack(_depths(p, x)).index_select(0, z[None])[0]
    log_q = log_q.index_select(0, z[None])[0]
    cost = log_q - _prior(x).index_select(0, z[None])[0] + F.cross_entropy(logits, y, reduction="sum")
    return cost, cost + cost.detach() * log_q


def _depths(p: Params, x: torch.Tensor) -> list[torch.Tensor]:
    """Logits after 0, 1, ... blocks, each (N, 10), in one pass."""
    h = F.linear(x, p["net.stem.weight"], p["net.stem.bias"])
    found = [F.linear(h, p["net.head.weight"], p["net.head.bias"])]
    for i in range(DEPTHS - 1):
        h = h + F.relu(F.linear(h, p[f"net.blocks.{i}.weight"], p[f"net.blocks.{i}.bias"]))
        found.append(F.linear(h, p["net.head.weight"], p["net.head.bias"]))
    return found


def _prior(x: torch.Tensor) -> torch.Tensor:
    return (-RATE * torch.arange(DEPTHS, dtype=x.dtype)).log_softmax(-1)


def _two_layers(p: Params, part: str, x: torch.Tensor) -> torch.Tensor:
    hidden = F.relu(F.linear(x, p[f"{part}.0.weight"], p[f"{part}.0.bias"]))
    return F.linear(hidden, p[f"{part}.2.weight"], p[f"{part}.2.bias"])
