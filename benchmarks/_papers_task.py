"""A task of papers.py: one network under one treatment on one data set."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Task(NamedTuple):
    """name: PART/what/…, unique. run: a function at the top of a module, which another process can import."""

    name: str
    run: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...] = ()
