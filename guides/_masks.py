"""Masks in a guide: Bernoulli, of a rate that is fixed, or learnt as one parameter for each weight matrix."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from torch import nn

from ._nets import weights_of

Rate = float | Sequence[float]
FROM, TO = 1e-3, 0.999  # where a learnt rate starts at the least and at the most: at 0 or 1 it could not move


def rates_of(net: nn.Module, rate: Rate) -> dict[str, float]:
    """{weight matrix: the share that is left out}, from one number for all or one for each, in the net's order.

    Raises ValueError for what is no share, at least 0 and below 1, and for another number of shares.
    """
    names = [name for name, w in weights_of(net).items() if w.dim() > 1]
    shares = [*rate] if isinstance(rate, Sequence) and not isinstance(rate, str) else [rate] * len(names)
    for share in shares:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1 or math.isnan(share):
            raise ValueError(f"rate: got {share!r}, wanted a share of inputs to leave out, at least 0 and below 1")
    if len(shares) != len(names):
        raise ValueError(
            f"rate: got {len(shares)} shares, wanted one number, or one for each of the {len(names)} weight matrices "
            f"{names}"
        )
    return dict(zip(names, shares, strict=True))


def masks(weight: torch.Tensor, name: str, rate: float, learn: bool, shape: tuple[int, ...]) -> Any:
    """A distribution of independent Bernoulli masks of this shape that keep 1 - rate on average.

    learn: the rate is a parameter `NAME.rate`, shape (), between 0 and 1, which starts at `rate`.
    """
    if not learn:
        return dist.Bernoulli(weight.new_full(shape, 1 - rate)).to_event(len(shape))
    start = weight.new_tensor(min(max(rate, FROM), TO))
    learnt = pyro.param(f"{name}.rate", start, constraint=constraints.unit_interval)
    # By its logits the density of a mask is finite at a rate that rounds to 0.
    keep = (1 - learnt).log() - learnt.log()
    return dist.Bernoulli(logits=keep.expand(shape)).to_event(len(shape))


def learnt_rates(params: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    """A table of the learnt rates among the parameters of a fit: a row for each layer, column rate."""
    rates = {name.removesuffix(".rate"): float(value) for name, value in params.items() if name.endswith(".rate")}
    table = pd.DataFrame.from_dict(rates, orient="index", columns=["rate"])
    table.index.name = "layer"
    return table


def counted(x: torch.Tensor, once: bool) -> Any:
    """A context for masks of the rows of x. once: their log densities count 1 / N, N the rows that the run saw first.

    N is a constant parameter, `masks.rows`: a batch has fewer rows, and new data others.
    Raises ValueError where the model counts them in another way: the KL would be neither of one row nor of all.
    """
    if not once:
        if "masks.rows" in pyro.get_param_store():
            raise ValueError("once: got once=True for the model and once=False for the guide: pass once=True to both")
        return nullcontext()
    rows = pyro.param("masks.rows", lambda: torch.tensor(float(len(x)), device=x.device))
    if rows.requires_grad and rows.is_leaf:
        rows.requires_grad_(False)
    return poutine.scale(scale=1 / rows.detach())
