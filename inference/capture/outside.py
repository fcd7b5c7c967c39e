"""Numbers that a program reads from outside of itself: settings, globals and closed-over values.

They are part of the signature of a step (`signature`): a step that reads another number is another step.
"""

import functools
import inspect
import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..runtime.reachable import FEW, LIBRARIES, reachable


def outside_scalars(programs: Any) -> dict[str, Callable[[], Any]]:
    """{name: a function that reads its present value} of numbers, strings and flags that programs read from outside.

    The names are found once, and only those that hold such a value then. A list or dictionary is watched for its
    identity, and for its entries if it has at most FEW.
    """
    found: dict[str, Callable[[], Any]] = {}
    for thing in reachable(programs):
        if inspect.isfunction(thing):
            names = thing.__code__.co_freevars
            for name, cell in zip(names, thing.__closure__ or (), strict=True):
                found[f"{thing.__qualname__}.{name}"] = functools.partial(getattr, cell, "cell_contents", None)
            names = thing.__code__.co_names
            for name in names:
                if name in thing.__globals__:
                    found[f"{thing.__module__}.{name}"] = functools.partial(thing.__globals__.get, name)
                    owner = thing.__globals__[name]  # a class or module of settings: the attributes that are read
                    if _holds_settings(owner):
                        found |= {f"{name}.{n}": functools.partial(getattr, owner, n, None) for n in names}
        elif isinstance(thing, dict) and len(thing) <= FEW:  # the attributes of an object, too
            for name in thing:
                found[f"{id(thing)}.{name}"] = functools.partial(thing.get, name)
        elif isinstance(thing, list) and len(thing) <= FEW:
            for i in range(len(thing)):
                found[f"{id(thing)}.[{i}]"] = functools.partial(_entry, thing, i)
    return {name: read for name, read in found.items() if _is_watched(_or_none(read))}


def current_values(scalars: dict[str, Callable[[], Any]]) -> tuple[Any, ...]:
    """The present value of each outside scalar; the identity of a value that is no scalar."""
    now = (_or_none(read) for read in scalars.values())
    return tuple(value if _is_scalar(value) else id(value) for value in now)


def present_objects(scalars: dict[str, Callable[[], Any]]) -> list[Any]:
    """The objects themselves: where they are the same ones, so are the values."""
    return [_or_none(read) for read in scalars.values()]


def definition_line(program: Any) -> str:
    """The file and line where a function is defined, see `source_line`; empty for an object without code."""
    while isinstance(program, functools.partial):
        program = program.func
    code = getattr(inspect.unwrap(program), "__code__", None) if callable(program) else None
    if code is None:
        return ""
    return source_line(code.co_filename, code.co_firstlineno)


def source_line(path: str, number: int) -> str:
    """` at FILE:LINE: `the text of that line``"""
    return f" at {Path(path).name}:{number}: `{linecache.getline(path, number).strip()}`"


def _entry(things: list[Any], i: int) -> Any:
    return things[i] if i < len(things) else None


def _or_none(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ValueError:  # an empty cell
        return None


def _holds_settings(thing: Any) -> bool:
    name = thing.__module__ if isinstance(thing, type) else getattr(thing, "__name__", "")
    package = str(name).split(".")[0]
    libraries = {"pyro", "credo", *LIBRARIES, *sys.stdlib_module_names}
    return (isinstance(thing, type) or inspect.ismodule(thing)) and package not in libraries


def _is_watched(value: Any) -> bool:
    return _is_scalar(value) or isinstance(value, list | tuple | dict)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | complex | str)
