"""Predictions in one pass of a network whose last layer is normal: no draws of weights.

f_c ~ N(m_c.a, v_c),   v_c = a'S_c a,   a: the features of a row and 1
numbers   y ~ N(m.a, v + sigma^2)                                            Bishop 2006, eq. 3.58
classes   p_c = E softmax_c(f)                                               `expected_softmax`
"""

from typing import Any

import torch
from torch import nn

from credo.models.bnn_last_layer import last_linear
from credo.treatments.normal_logits import expected_softmax

FACTOR = "weight.factor"  # the end of the name of the parameter by which a fit of `bnn_last_layer` is known


def features(net: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(what the last linear layer gets, with a column of ones if it has a bias, (N, H + 1); the network's output).

    Raises ValueError for a network that does not end in that layer: then its output is not linear in the weights.
    """
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    _, last = last_linear(net)
    hook = last.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    try:
        out = net(x)
    finally:
        hook.remove()
    ends = len(seen) == 1 and seen[0][1].numel() == out.numel()
    if not ends or not torch.equal(seen[0][1].reshape(out.shape), out):
        raise ValueError(
            f"net: the output of this {type(net).__name__} is not that of its last nn.Linear, called once; wanted a "
            f"network that ends in it, with logits and not probabilities as its output"
        )
    phi = seen[0][0]
    return (phi if last.bias is None else torch.cat([phi, phi.new_ones(len(phi), 1)], 1)), out


def one_pass(fit: Any, net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The prediction of a fit of `bnn_last_layer` without draws: the body once, and the moments of the last layer.

        numbers   mean m.a, variance a'S a + sigma^2;      classes   E softmax(f), f_c ~ N(m_c.a, a'S_c a)

    x: shape (N, ...). a: the features of a row and 1. Returns (N, 2), mean and sd of y in its units, or (N, C).
    Raises ValueError for a fit of another guide.
    """
    factor = [name for name in fit.params if name.endswith(FACTOR)]
    if len(factor) != 1:
        raise ValueError("fit: wanted one of the guide of the pair 'bnn_last_layer', whose last layer is one normal")
    prefix = factor[0].removesuffix(FACTOR)
    trained, params = fit.trained(net), fit.params
    numbers = "y.mean" in params
    like = params[factor[0]]
    x = x.to(like.device, like.dtype)
    with torch.no_grad():
        a, f = features(trained, (x - params["x.mean"]) / params["x.sd"] if numbers else x)
        phi = a[:, : like.shape[-1]]
        variance = torch.einsum("nh,chk->nck", phi, like).square().sum(-1)
        if f"{prefix}bias.scale" in params:
            along = 1 + phi @ params[f"{prefix}weight.slope"].mT
            variance = variance + (params[f"{prefix}bias.scale"] * along).square()
        if not numbers:
            return expected_softmax(f, variance)
        noise = params["sigma"] if "sigma" in params else known_noise(fit)
        if noise is None:
            raise ValueError(
                "fit: its model was not given `noise` by functools.partial, so the noise of y is not known"
            )
        sd_y = params["y.sd"]
        mean = params["y.mean"] + sd_y * f.reshape(-1)
        return torch.stack([mean, (sd_y.square() * variance[:, 0] + noise**2).sqrt()], -1)


def known_noise(fit: Any) -> float | None:
    """The noise that a functools.partial of the model was given; None where it was given none."""
    program = fit.model
    while hasattr(program, "func"):
        if "noise" in program.keywords:
            return float(program.keywords["noise"])
        program = program.func
    return None
