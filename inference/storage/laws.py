"""Distributions, transforms and constraints of torch's and Pyro's as the name of a class and its fields, and back.

A class is found by its name among those that the libraries define, and those that credo adds, never by an import. What
an object computed and kept (an inverse, the last value of a transform) is left out.
"""

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pyro.distributions
import pyro.distributions.constraints
import pyro.distributions.transforms
import torch
from torch.distributions import Distribution, Transform, constraints, transforms
from torch.distributions.constraints import Constraint
from torch.distributions.utils import lazy_property

from ..distributions import finite, transformed

KINDS = (Distribution, Transform, Constraint)
COMPUTED = {"_inv": None, "_cached_x_y": (None, None)}  # of a transform


LIBRARIES = ("torch.distributions.", "pyro.distributions.", finite.__name__, transformed.__name__)


def _classes() -> Iterator[tuple[str, type]]:
    """(name, class) of all that torch, Pyro and credo define."""
    packages = (torch.distributions, pyro.distributions, pyro.distributions.transforms)
    modules = [m for package in packages for m in vars(package).values() if isinstance(m, ModuleType)]
    for module in (*modules, *packages, finite, transformed):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, KINDS) and value.__module__.startswith(LIBRARIES):
                yield f"{value.__module__}.{value.__name__}", value


CLASSES = dict(_classes())
NAMES = {kind: name for name, kind in CLASSES.items()}
# Constraints that are one object each, which programs compare by identity: constraints.real.
SINGLE = {
    name: value
    for module in (constraints, pyro.distributions.constraints)
    for name, value in vars(module).items()
    if isinstance(value, Constraint)
}
NAME_OF_SINGLE = {id(value): name for name, value in SINGLE.items()}


def law(value: Any) -> tuple[str, dict[str, Any]] | None:
    """(the name of its class, its fields) of a distribution, transform or constraint; ("single", ...) of one that is
    the only one of its kind; None for anything else, and for classes of the user's.
    """
    if not isinstance(value, KINDS):
        return None
    if (name := NAME_OF_SINGLE.get(id(value))) is not None:
        return "single", {"name": name}
    if type(value) not in NAMES:
        return None
    computed = {n for n, _ in inspect.getmembers_static(type(value), lambda each: isinstance(each, lazy_property))}
    needed = {n for n in computed if n in getattr(type(value), "arg_constraints", {})}
    fields = {name: field for name, field in vars(value).items() if name not in computed - needed}
    if isinstance(value, Transform):
        kept = {"_inv"} if isinstance(value, transforms._InverseTransform) else set()  # it is what it inverts
        fields = {name: field for name, field in fields.items() if name not in COMPUTED.keys() - kept}
    return NAMES[type(value)], fields


def lawful(name: str, fields: dict[str, Any]) -> Any:
    """The distribution, transform or constraint of a class by its name, with these fields. Raises KeyError."""
    if name == "single":
        return SINGLE[fields["name"]]
    kind: Any = CLASSES[name]
    made = kind.__new__(kind)
    made.__dict__.update((COMPUTED if isinstance(made, Transform) else {}) | fields)
    return made
