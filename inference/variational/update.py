"""One update of the parameters by the gradient of a loss."""

import math
import warnings
from collections.abc import Callable

import torch

from ..runtime.parameters import unconstrained


def update(
    optimiser: torch.optim.Optimizer, loss: Callable[[], tuple[float, torch.Tensor]], first: bool = False
) -> float:
    """The value of `loss()`, nats. If it is not finite, nothing is updated. first: warn of parameters without gradient.

    Parameters that this call of the guide made join the optimiser.
    """
    optimiser.zero_grad()
    value, surrogate = loss()
    if not math.isfinite(value):
        return value
    surrogate.backward()
    known = {id(p) for group in optimiser.param_groups for p in group["params"]}
    for name, p in unconstrained().items():
        if id(p) not in known:
            optimiser.add_param_group({"params": [p]})
        if p.grad is None and first:
            warnings.warn(f"parameter {name!r} gets no gradient: is it detached, or used by no site?", stacklevel=6)
    optimiser.step()
    return value
