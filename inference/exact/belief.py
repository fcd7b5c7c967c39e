"""What is believed of a block of latents that no other depends on: a family with its parameters found."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .coordinates import Values

Point = dict[str, torch.Tensor]


class Belief(NamedTuple):
    """A posterior of some sites in closed form, in nats and in the shapes of the sites.

    marginals: {site: distribution}. log_prob: of values of all the sites, a scalar. size: the magnitudes of which that
    is a sum, or more. sample: n draws, {site: (n, *shape)}. widened: one draw of the family with natural parameters
    that spread it so many times wider. gaussian: mean and covariance of all the numbers, site after site, where the
    belief is one normal.
    """

    family: str
    marginals: dict[str, Any]
    log_prob: Callable[[Values], torch.Tensor]
    size: Callable[[Values], float]
    sample: Callable[[int], Point]
    widened: Callable[[float], Point]
    gaussian: Callable[[], tuple[torch.Tensor, torch.Tensor] | None] = lambda: None


class Fitted(NamedTuple):
    """A family held against a block. kernel: of the coordinates x, log q(x) but for a constant, and the magnitudes it
    is a sum of. belief: None where its parameters are not those of a distribution. shown: the parameters, in words.
    """

    family: str
    sites: tuple[str, ...]
    kernel: Callable[[torch.Tensor], tuple[torch.Tensor, float]]
    belief: Belief | None
    shown: str
