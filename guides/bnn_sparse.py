"""Sparse variational dropout: a normal for every weight in the additive parametrisation, and a table of pruned weights.

    q(w_i) = N(theta_i, sigma_i^2),   alpha_i = sigma_i^2 / theta_i^2;   biases are points

theta and log sigma^2 are the parameters, not alpha: the gradient of theta is then free of alpha's noise (Molchanov,
Ashukha and Vetrov 2017, section 4.1). Where log alpha reaches 3, a weight is 95 % noise and is set to zero (5.1).
`recipe` gives the settings of the paper's runs; `credo.compress` cuts out what is pruned.
"""

import copy
import functools
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ._nets import point, weights_of

# log sigma^2 before the first step. On the digits -ELBO ends between 690 and 710 nats from -9 to -5, whatever the seed;
# from a lower start the weights sit where the KL is clipped, and it ends far above (docs/traps.md).
START = -8.0
PUBLISHED_SD = 0.01  # of the means before the first step: with START = -10 log alpha is near -1, where the prior acts
THRESHOLD = 3.0  # a weight is pruned if its log alpha is at least this


def guide(net: nn.Module, x: torch.Tensor, y: torch.Tensor | None = None, *, start: float | None = None) -> None:
    """net: its parameters are the latents; theta starts at its own weights. x, y: not used.

    start: log sigma^2 of every weight before the first step; None: START. Another one: functools.partial(guide,
        start=-8.0).
    """
    for name, w in weights_of(net).items():
        if w.dim() <= 1:
            point(name, w)
            continue
        theta = pyro.param(f"{name}.theta", w.detach().clone())
        log_sigma2 = pyro.param(f"{name}.log_sigma2", torch.full_like(theta, START if start is None else start))
        pyro.sample(name, dist.Normal(theta, (0.5 * log_sigma2).exp()).to_event(w.dim()))


def report(params: Mapping[str, torch.Tensor], threshold: float = THRESHOLD) -> pd.DataFrame:
    """A table of pruned weights: a row for each weight of the net and a total; columns weights, kept, pruned (a share).

    params: `fit.params`. threshold: the log alpha at which a weight is pruned.
    """
    noise = log_alpha(params)
    rows = {name: (a.numel(), int((a < threshold).sum())) for name, a in noise.items()}
    rows["total"] = (sum(n for n, _ in rows.values()), sum(kept for _, kept in rows.values()))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["weights", "kept"])
    table["pruned"] = 1 - table["kept"] / table["weights"]
    table.index.name = "layer"
    return table


def pruned(net: nn.Module, params: Mapping[str, torch.Tensor], threshold: float = THRESHOLD) -> nn.Module:
    """A copy of the net with the means as weights, and zeros where log alpha reaches the threshold."""
    thin = copy.deepcopy(net).eval()
    noise = log_alpha(params)
    with torch.no_grad():
        for name, w in thin.named_parameters():
            if name in noise:
                w.copy_(params[f"{name}.theta"] * (noise[name] < threshold).to(noise[name].dtype))
            elif f"{name}.value" in params:  # frozen parameters are not latents
                w.copy_(params[f"{name}.value"])
    return thin


def log_alpha(params: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """{weight: log alpha = log sigma^2 - log theta^2, of its shape}. params: `fit.params`."""
    names = [name.removesuffix(".log_sigma2") for name in params if name.endswith(".log_sigma2")]
    tiny = math.sqrt(torch.finfo(torch.float32).tiny)
    return {n: params[f"{n}.log_sigma2"] - 2 * params[f"{n}.theta"].abs().clamp_min(tiny).log() for n in names}


def small_start(net: nn.Module, seed: int = 0, sd: float = PUBLISHED_SD) -> nn.Module:
    """A copy of the net with weights drawn from N(0, sd^2) and biases at zero: where the paper's runs start.

    Parameters of at most one dimension that are no bias (scales of a normalisation) and frozen ones keep their values.
    """
    fresh = copy.deepcopy(net)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, w in weights_of(fresh).items():
            if w.dim() > 1:
                w.copy_(sd * torch.randn(w.shape, generator=generator, dtype=w.dtype))
            elif name.rpartition(".")[2] == "bias":
                w.zero_()
    return fresh


def recipe(
    rows: int,
    epochs: float = 200,
    *,
    batch_size: int = 100,
    flat: float = 0.5,
    lr: float = 1e-3,
    quiet: float = 0.025,
    full: float = 0.1,
) -> dict[str, Any]:
    """The settings of `credo.fit` with which Molchanov, Ashukha and Vetrov 2017 trained: {argument: value}.

        lr(t)        = lr min(1, (1 - t / T) / (1 - flat))             t = 0..T-1 steps, T = epochs rows / batch_size
        KL weight(t) = (t / T - quiet) / (full - quiet), within [0, 1]

    By Adam with its usual betas, one draw a step. Their networks started at `small_start(net)` with log sigma^2 = -10
    (`functools.partial(guide, start=-10.0)`), their pixels were divided by 256 less the mean image, and weights were
    pruned at log alpha = 3. In their program log alpha is clipped to [-8, 8] where noise is drawn too; here in the KL
    alone.

    rows: N, of the data. epochs, batch_size: 200 and 100; all rows at once where they are no more than a batch. flat:
    the share of the run at the full rate; the paper's LeNet-300-100 has 0.5, its LeNet-5 0. lr: the full rate. quiet,
    full: shares of the run after which the KL divergence begins to count, and counts in full: 5 and 20 of 200 epochs.
    Raises ValueError for numbers that are not positive, rows that are no whole number, and shares that are not ordered
    within [0, 1].

    >>> from credo.guides.bnn_sparse import recipe
    >>> settings = recipe(60_000)
    >>> settings["steps"], settings["lr"](0), settings["lr"](90_000), settings["kl_warmup"]
    (120000, 0.001, 0.0005, (3000, 12000))
    """
    if not rows >= 1 or not 0 < epochs < math.inf or not batch_size >= 1 or not 0 < lr < math.inf:
        raise ValueError(
            f"recipe: got {rows} rows, {epochs} epochs, batches of {batch_size}, lr={lr}; wanted positive numbers"
        )
    if any(isinstance(number, bool) or number != int(number) for number in (rows, batch_size)):
        raise ValueError(f"recipe: got {rows} rows in batches of {batch_size}; wanted whole numbers")
    if not 0 <= flat <= 1 or not 0 <= quiet < full <= 1:
        raise ValueError(
            f"recipe: got flat={flat}, quiet={quiet}, full={full}; wanted shares of the run, quiet before full"
        )
    steps = max(1, math.ceil(epochs * rows / min(batch_size, rows)))
    return {
        **{"steps": steps, "batch_size": batch_size if batch_size < rows else None, "particles": 1},
        "optim": functools.partial(torch.optim.Adam, betas=(0.9, 0.999)),
        "lr": functools.partial(_rate, steps, lr, flat),
        "kl_warmup": (round(quiet * steps), round(full * steps)),
    }


def _rate(steps: int, lr: float, flat: float, step: int) -> float:
    left = max(0.0, 1 - step / steps)
    return lr if left >= 1 - flat else lr * left / (1 - flat)
