"""Priors of the weights of a network: an sd by the fan-in, sds learnt by the evidence, a mixture of two scales.

w ~ N(0, sd^2),   sd a number or a parameter of the model;      w ~ share N(0, wide^2) + (1 - share) N(0, narrow^2)
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

Sd = float | torch.Tensor
PriorSd = Sd | str | Mapping[str, Sd | str] | Callable[[str, torch.Tensor], Sd | str | None] | None
Prior = Callable[[str, torch.Tensor], dist.Distribution]

LEARNT, ARD = "learnt", "ard"


def learnt_sd(site: str, w: torch.Tensor, start: float, word: str) -> torch.Tensor:
    """The prior sd of a parameter of a network, itself a parameter `SITE.prior_sd` that the evidence chooses.

    word: "learnt", one number for the site, at whose optimum sd^2 = mean(loc^2 + scale^2) over its weights if the guide
    is an independent normal; "ard", one for each weight, sd^2 = loc^2 + scale^2, with a KL of log(1 + loc^2 / scale^2)
    / 2.
    """
    return pyro.param(
        f"{site}.prior_sd",
        lambda: w.new_full(w.shape if word == ARD else (), start),
        constraint=constraints.positive,
    )


def scale_mixture(share: float = 0.5, wide: float = 1.0, narrow: float = math.exp(-6)) -> Prior:
    """The prior share N(0, wide^2) + (1 - share) N(0, narrow^2) of each weight: most are small, a few are not.

    For `credo.nn.bayesian(net, prior=credo.nn.scale_mixture())`. Its KL from a normal has no closed form, so
    the plan prints that the ELBO uses draws of the weights in its place, and the gradients are noisier than with a
    normal prior.

    share: of the wide component, between 0 and 1. wide, narrow: sds in the units of the weights, whatever the fan-in.
        The defaults are among the values that the authors searched; none of them is best for every network.
    Raises ValueError for a share that is not between 0 and 1, and for sds that are not 0 < narrow < wide.
    Source: Blundell et al. 2015 (Weight Uncertainty in Neural Networks, eq. 7).

    >>> import torch
    >>> prior = credo.nn.scale_mixture(share=0.25, wide=1.0, narrow=0.01)
    >>> weights = credo.nn.draw_weights(torch.nn.Linear(500, 2), prior=prior)
    >>> 0.1 < (weights["weight"].abs() > 0.05).float().mean().item() < 0.4  # a quarter are wide
    True
    """
    numbers = {"share": share, "wide": wide, "narrow": narrow}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError(f"{name}: got {value!r}, wanted a positive number")
    if share >= 1:
        raise ValueError(f"share: got {share!r}, wanted a number between 0 and 1: the share of the wide component")
    if narrow >= wide:
        raise ValueError(f"narrow: got {narrow!r} for wide={wide!r}, wanted a smaller sd; exchange the two")
    return functools.partial(_mixture, float(share), float(wide), float(narrow))


def _mixture(share: float, wide: float, narrow: float, name: str, w: torch.Tensor) -> dist.Distribution:
    shares = w.new_tensor([share, 1 - share])
    scales = w.new_tensor([wide, narrow]).expand(*w.shape, 2)
    components = dist.Normal(torch.zeros_like(scales), scales)
    return dist.MixtureSameFamily(dist.Categorical(shares.expand(*w.shape, 2)), components)


def checked_sd(name: str, w: torch.Tensor, sd: Any) -> Sd | str:
    """The sd of a parameter w. A tensor may be a latent, whose values its own prior keeps positive."""
    if isinstance(sd, torch.Tensor):
        pairs = zip(reversed(sd.shape), reversed(w.shape), strict=False)
        if not all(one in (1, size) or size == 1 for one, size in pairs):
            raise ValueError(
                f"prior_sd: got shape {tuple(sd.shape)} for parameter {name!r} of shape {tuple(w.shape)}, wanted one "
                f"number, or a shape that expands to that of the parameter"
            )
        return sd
    if isinstance(sd, str) and sd in (LEARNT, ARD):
        return sd
    try:
        number = float(sd)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(sd, bool | str) or not 0 < number < math.inf:
        raise ValueError(
            f"prior_sd: got {sd!r} for parameter {name!r}, wanted a positive number, 'learnt', 'ard', a dictionary "
            f"{{parameter: sd}}, or a function of the parameter's name and value that returns one"
        )
    return number


def checked_prior(name: str, w: torch.Tensor, prior: Any) -> dist.Distribution:
    """The distribution that a user's function gives for a parameter w, over all dimensions of w as one event."""
    if not isinstance(prior, torch.distributions.Distribution):
        raise ValueError(
            f"prior: got {type(prior).__name__} for parameter {name!r}, wanted a function of the parameter's name and "
            f"value that returns a distribution; for an sd pass prior_sd"
        )
    shape = prior.batch_shape + prior.event_shape
    if shape != w.shape:
        if prior.event_shape or len(shape) > w.dim():
            raise ValueError(
                f"prior: got a distribution of shape {tuple(shape)} for parameter {name!r} of shape {tuple(w.shape)}, "
                f"wanted that shape, or one number that is expanded to it"
            )
        prior = prior.expand(w.shape)
    return prior.to_event(w.dim() - len(prior.event_shape))
