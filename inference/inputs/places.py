"""Lines of the user's program: which files are the user's, and how a message names a line."""

import linecache
import os
import sys
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy
import pyro
import torch

_ENGINE = Path(__file__).parents[1]  # all rooms of the engine
_LIBRARIES = tuple(Path(file).parent for file in (torch.__file__, pyro.__file__, numpy.__file__, linecache.__file__))
_NOT_THE_USERS = tuple(f"{folder}{os.sep}" for folder in (_ENGINE, *_LIBRARIES))
LONGEST = 100  # characters of a line in a message


class Place(NamedTuple):
    """A place in a source file. Two calls on one line have the same line and different instructions."""

    file: str
    line: int
    instruction: int

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.line).strip()
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
        return f"{Path(self.file).name}:{self.line}" + (f": `{text}`" if text else "")


def is_the_users_file(path: str) -> bool:
    """Whether a source file belongs to neither the engine nor torch, Pyro, NumPy or Python's own library."""
    return not path.startswith((*_NOT_THE_USERS, "<frozen"))


def calling_place() -> Place | None:
    """The innermost line of the user's program that is running now; None if there is none."""
    return next(iter(calling_places(1)), None)


def calling_places(most: int) -> tuple[Place, ...]:
    """The innermost lines of the user's program that are running now, the caller of each after it; so many at most."""
    frame: FrameType | None = sys._getframe(1)
    found: list[Place] = []
    while frame is not None and len(found) < most:
        if is_the_users_file(frame.f_code.co_filename):
            found.append(Place(frame.f_code.co_filename, frame.f_lineno, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)
