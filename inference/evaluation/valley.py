"""Whether two point estimates are at one mode: how far log p falls on the way from one to the other.

    valley = min(f(0), f(1)) - min_h f(h),   f(h) = log p(data, z(h)),   z(h): parameters (1 - h) best + h other

The way is straight in the unconstrained parameters of the guide. At one mode f has no minimum between its ends; points
at two modes have one, whatever their distance is. A point has no sd to measure distances by.
"""

import dataclasses
import math

import torch

from ..importance.guide_draws import in_double
from ..runtime.state import State, snapshot
from ..variational.result import Fit
from .evidence import log_weights_of

STOPS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the way


def valley(best: Fit, other: Fit) -> float:
    """How far log p falls below both point estimates between them, nats; 0 at one mode, NaN where it is not known.

    best, other: fits of the same guide, both of which are points.
    """
    here, there = in_double(best), in_double(other)
    try:
        ends = [log_weights_of(fit, 1, 0).item() for fit in (here, there)]
        between = [log_weights_of(_between(here, there, h), 1, 0).item() for h in STOPS]
    except (ArithmeticError, KeyError, RuntimeError, ValueError):  # of the user's program, at points it has not met
        return math.nan
    return max(0.0, min(ends) - min(between))


def _between(one: Fit, two: Fit, h: float) -> Fit:
    """The fit with the parameters (1 - h) one + h two, in unconstrained space."""
    state, other = snapshot(one.state), two.state
    with torch.no_grad():
        for mine, theirs in zip(_parameters(state), _parameters(other), strict=True):
            mine.copy_(torch.lerp(mine, theirs.to(mine.device, mine.dtype), h))
    return dataclasses.replace(one, state=state)


def _parameters(state: State) -> list[torch.Tensor]:
    """The parameters of a state, each once, in an order that is the same for all runs of a pair."""
    found = [state.store["params"][name] for name in sorted(state.store["params"])]
    for attributes in state.modules.values():
        found += [p for p in attributes["_parameters"].values() if p is not None]
    return list({id(p): p for p in found}.values())
