"""The arguments `checkpoint` and `every`: the file that the user asked for, and how often it is written."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..inputs.arguments import shown, whole_number

PASSING = ("seeds", "device", "compile", "progress")  # options that may be others when a run goes on


@dataclass
class Kept:
    """What the user asked for. every: steps from one writing to the next; None: some seconds. options: of the call."""

    path: str
    every: int | None
    options: Mapping[str, Any]
    spent: float = 0.0  # seconds of CPU in earlier processes


def kept_of(path: Any, every: Any, options: Mapping[str, Any]) -> Kept | None:
    """What the arguments `checkpoint` and `every` ask for; None for no file. Raises ValueError for what is no path.

    options: of the call. Those of PASSING do not tell a run from another.
    """
    if path is None:
        if every is not None:
            raise ValueError(f"every: got {shown(every)} without a file; pass checkpoint=path, too")
        return None
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ValueError(f"checkpoint: got {shown(path)}, wanted the path of a file")
    if options.get("seeds") is not None:
        raise ValueError("checkpoint: one file cannot keep the runs of several seeds; pass one seed=, or no checkpoint")
    every = None if every is None else whole_number("every", every, 1)
    place = os.path.abspath(os.path.expanduser(os.fsdecode(path)))  # the program may change its folder meanwhile
    return Kept(place, every, {name: v for name, v in options.items() if name not in PASSING})
