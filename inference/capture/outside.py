"""Numbers that a program reads from outside of itself: settings, globals and closed-over values.

They are part of the signature of a step (`signature`): a step that reads another number is another step.
"""

import functools
import inspect
import linecache
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..runtime.reachable import FEW, LIBRARIES, is_the_users, reachable

Readers = dict[str, Callable[[], Any]]  # {name: a function that reads its present value}


def outside_scalars(programs: Any) -> Readers:
    """The numbers, strings and flags that programs read from outside; see `scalars_of`."""
    return scalars_of(outside_readers(programs))


def scalars_of(readers: Readers) -> Readers:
    """Those that hold a number, a string or a flag now, or a list or dictionary, which is watched for its identity."""
    return {name: read for name, read in readers.items() if _is_watched(_or_none(read))}


def outside_readers(programs: Any) -> Readers:
    """What programs read from outside. The names are found once, and entries of lists and dictionaries of up to FEW."""
    found: Readers = {}
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
        elif is_the_users(thing):  # what its class holds is read through it
            owner = type(thing)
            own = [name for base in owner.__mro__ if _holds_settings(base) for name in vars(base)]
            own = [name for name in own if not name.startswith("__")]
            found |= {f"{owner.__qualname__}.{name}": functools.partial(getattr, owner, name, None) for name in own}
    return found


def tensors_of(readers: Readers, constants: Sequence[torch.Tensor]) -> list["Held"]:
    """Where a program finds the tensors that its recording holds as `constants`."""
    places = {t.data_ptr() for t in constants if t.numel()}
    found = ((name, read, _or_none(read)) for name, read in readers.items())
    plain = (one for one in found if type(one[2]) is torch.Tensor and one[2].layout is torch.strided)
    return [held for one in plain if (held := Held(*one, one[2].data_ptr())).place in places]


class Held(NamedTuple):
    """A tensor outside of a program, its name, and a function that reads what has the name now."""

    name: str
    read: Callable[[], Any]
    tensor: torch.Tensor
    place: int  # in memory


def replaced(held: Iterable[Held]) -> str | None:
    """The name of the first tensor in whose place there is another one now, or that has other memory (`x.data = y`);
    None if all are as they were.
    """
    other = (one for one in held if _or_none(one.read) is not one.tensor or one.tensor.data_ptr() != one.place)
    return next((one.name.split(".")[-1] for one in other), None)


def current_values(scalars: Readers) -> tuple[Any, ...]:
    """The present value of each outside scalar; the identity of a value that is no scalar."""
    now = (_or_none(read) for read in scalars.values())
    return tuple(value if _is_scalar(value) else id(value) for value in now)


def present_objects(scalars: Readers) -> list[Any]:
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
