"""The closed-form posterior of one block: sites that depend on each other and on no other latent."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .coordinates import Values

Draws = dict[str, torch.Tensor]  # {site: shape (n, *shape of the site)}


class BlockPosterior(NamedTuple):
    """The posterior of the sites of a block, in nats and in the shapes of the sites."""

    family: str
    marginals: dict[str, Any]  # {site: distribution}
    log_prob: Callable[[Values], torch.Tensor]  # at values of all the sites, a scalar
    magnitude: Callable[[Values], float]  # sum of the absolute terms of log_prob, or more: bounds its rounding error
    sample: Callable[[int], Draws]  # n draws
    sample_wider: Callable[[float], dict[str, torch.Tensor]]  # one draw of the family, this many times as wide
    gaussian: Callable[[], tuple[torch.Tensor, torch.Tensor] | None] = lambda: None
    """Mean (D,) and covariance (D, D) of all numbers, site after site; None unless they are jointly normal."""
    made: tuple[Callable[..., Any], tuple[Any, ...]] | None = None  # a function that makes it, of data alone

    def __reduce__(self) -> Any:
        """It is stored as what makes it."""
        assert self.made is not None
        return self.made


class Candidate(NamedTuple):
    """A family with parameters fitted to a block. `proof` decides whether it is the posterior."""

    family: str
    sites: tuple[str, ...]
    kernel: Callable[[torch.Tensor], tuple[torch.Tensor, float]]  # x -> (log q(x) + const, sum of its absolute terms)
    posterior: BlockPosterior | None  # None where the parameters define no distribution: an improper posterior
    parameters: str  # in words, for messages
