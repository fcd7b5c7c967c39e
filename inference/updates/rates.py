"""Learning rates by the names of parameters: other layers, other rates.

rate(p) = the value of the first pattern that matches the name of p, LR where none does
"""

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

import torch

from ..inputs.arguments import shown
from ..runtime.parameters import unconstrained

Rates = Mapping[str, float]  # {pattern of names, as "0.*" or "*.scale": learning rate}


def checked_rates(rates: Rates, optim: Any = None) -> dict[str, float]:
    """{pattern: rate}. Raises ValueError for patterns that are no text, and for rates that are not positive numbers."""
    if not rates:
        raise ValueError("lr: got no pattern, wanted {pattern of parameter names: rate}, as {'0.*': 0.001, '*': 0.01}")
    if isinstance(optim, str):
        raise ValueError(
            f"lr: got a rate for each of {list(rates)}, which optim={optim!r} does not take; pass one rate, or leave "
            f"out optim"
        )
    for pattern, rate in rates.items():
        if not isinstance(pattern, str):
            raise ValueError(f"lr: got pattern {shown(pattern)}, wanted text: a name of parameters, as '0.weight.loc'")
        if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 < float(rate) < math.inf:
            raise ValueError(f"lr: got {shown(rate)} for {pattern!r}, wanted a positive number, the learning rate")
    return {pattern: float(rate) for pattern, rate in rates.items()}


def rate_of(name: str, rates: Rates, otherwise: float) -> float:
    """The rate of the first pattern that matches the name, capitals as they are; `otherwise` where none does.

    >>> rate_of("2.weight.loc", {"0.*": 0.001, "*.loc": 0.01}, 0.02)
    0.01
    """
    return next((rate for pattern, rate in rates.items() if fnmatchcase(name, pattern)), otherwise)


def grouped(leaves: Iterable[torch.Tensor], rates: Rates, otherwise: float) -> list[dict[str, Any]]:
    """The parameter groups of an optimiser of torch's, one for each rate, of parameters in Pyro's store.

    leaves: in unconstrained space. Raises ValueError for a pattern that decides the rate of no parameter.
    """
    names = {id(p): name for name, p in unconstrained().items()}
    parameters = list(leaves)
    if unknown := [p for p in parameters if id(p) not in names]:
        raise ValueError(f"lr: got rates by name, and {len(unknown)} parameters without a name; pass one rate")
    groups: dict[float, list[torch.Tensor]] = {}
    for p in parameters:
        groups.setdefault(rate_of(names[id(p)], rates, otherwise), []).append(p)
    refuse_unused(list(names.values()), rates)
    return [{"params": members, "lr": rate} for rate, members in groups.items()]


def refuse_unused(names: list[str], rates: Rates) -> None:
    """Raises ValueError for a pattern that is the first to match none of the names: a rate that would go unused."""
    first = {next((p for p in rates if fnmatchcase(name, p)), None) for name in names}
    if idle := [pattern for pattern in rates if pattern not in first]:
        hidden = any(fnmatchcase(name, idle[0]) for name in names)
        why = "whose parameters earlier patterns match; put it before them" if hidden else "which matches no parameter"
        shortened = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
        raise ValueError(f"lr: got {idle[0]!r}, {why}; the parameters are {shortened}")
