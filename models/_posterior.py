"""The exact posterior that `posterior()` of a model returns, derived by hand."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pyro.distributions import TorchDistribution


class Posterior(NamedTuple):
    """marginals: {site: distribution}. log_evidence: log p(data), nats. predictive(*new): distribution of new data."""

    marginals: Mapping[str, TorchDistribution]
    log_evidence: float
    predictive: Callable[..., TorchDistribution]
