"""What `posterior()` of a model returns: the answer derived by hand."""

from collections.abc import Callable
from typing import NamedTuple

from torch.distributions import Distribution


class Posterior(NamedTuple):
    """marginals: {site: distribution}. log_evidence: log p(data), nats. predictive(*new): distribution of new data."""

    marginals: dict[str, Distribution]
    log_evidence: float
    predictive: Callable[..., Distribution]
