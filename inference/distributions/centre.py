"""A point inside the support of a distribution that cannot be drawn from, such as ImproperUniform."""

from typing import Any

import torch
from torch.distributions import biject_to


def centre(fn: Any) -> torch.Tensor:
    """T(0), T: from unconstrained numbers to the support of `fn`; in the shape of a draw of it."""
    transform = biject_to(fn.support)
    value: torch.Tensor = transform(torch.zeros(transform.inverse_shape(fn.shape())))
    return value
