"""The public names of credo, and the fields and arguments of each."""

import dataclasses
import importlib
import inspect
import re
import typing
from types import ModuleType
from typing import Any


def public() -> dict[str, Any]:
    """{full name: object} of the public functions, classes and constants of credo and its namespaces."""
    found: dict[str, Any] = {}
    credo = importlib.import_module("credo")
    for name in credo.__all__:
        value = getattr(credo, name)
        if isinstance(value, ModuleType):
            found |= {f"credo.{name}.{part}": getattr(value, part) for part in value.__all__}
        else:
            found[f"credo.{name}"] = value
    return found


def fields_of(value: type) -> dict[str, str]:
    """{name: its type as text} of the fields of a NamedTuple or dataclass."""
    if hasattr(value, "_fields"):
        names = list(value._fields)
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = []
    try:
        hints = typing.get_type_hints(value)
    except NameError:  # a type that is imported for type checkers alone
        hints = {}
    return {name: _type(hints[name]) if name in hints else "" for name in names}


def _type(hint: Any) -> str:
    """A type as its own module writes it: without the modules of its parts."""
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return re.sub(r"(?:\w+\.)+(?=\w)", "", text)


def known_to(value: Any) -> list[str]:
    """The names of the arguments of a function, method or class."""
    if not callable(value):
        return []
    try:
        return list(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return []
