"""Finds the objects that a program can reach: arguments, closures, bound methods, globals of its file."""

import functools
import inspect
import sys
from argparse import Namespace
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from torch import nn


def find_modules(things: Any) -> list[nn.Module]:
    """The torch modules that these things can reach: as arguments, methods, closures or globals of their file."""
    return [thing for thing in reachable(things) if isinstance(thing, nn.Module)]


LIBRARIES = {
    "torch",
    "numpy",
    "pandas",
    "scipy",
    "sklearn",
    "matplotlib",
    "tqdm",
}  # packages not entered
FEW = 100  # entries


def reachable(things: Any) -> Iterator[Any]:
    """Yields each reachable object once: networks (not entered), functions, containers, numbers, other objects."""
    seen: set[int] = set()
    todo = [things]
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        yield thing
        if isinstance(thing, nn.Module):
            continue
        if isinstance(thing, (tuple, list)):
            todo.extend(thing)
        elif isinstance(thing, dict):
            todo.extend(thing.values())
        elif isinstance(thing, functools.partial):
            todo.extend((thing.func, thing.args, thing.keywords))
        elif inspect.ismethod(thing):
            todo.extend((thing.__self__, thing.__func__))
        elif inspect.isfunction(thing):
            todo.extend((thing.__defaults__, thing.__kwdefaults__))
            try:
                scope = inspect.getclosurevars(thing)
            except ValueError:  # a closed-over name that has no value yet
                continue
            todo.extend(scope.nonlocals.values())
            # Named beside the function: functions of the same file may name more, others are somebody else's.
            todo.extend(
                v for v in scope.globals.values() if not inspect.isfunction(v) or v.__globals__ is thing.__globals__
            )
        elif is_the_users(thing):
            todo.append(getattr(thing, "__dict__", {}))


def is_the_users(thing: Any) -> bool:
    """Whether an object is of a class that the user wrote, or a namespace of settings; not of one of LIBRARIES."""
    if isinstance(thing, (Namespace, SimpleNamespace)):
        return True
    package = type(thing).__module__.split(".")[0]
    known = inspect.ismodule(thing) or isinstance(thing, type) or package in sys.stdlib_module_names
    return not known and package not in LIBRARIES
