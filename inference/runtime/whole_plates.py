"""Plates that subsample their rows, run in full: what is asked of a finished fit is asked of all rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyro.poutine.subsample_messenger import SubsampleMessenger

from .replaced import attribute_replaced


@contextmanager
def whole_plates() -> Iterator[None]:
    """Inside, a plate with a `subsample_size` takes all of its rows; rows chosen by `subsample=` stay chosen."""
    with attribute_replaced(SubsampleMessenger, "_subsample", staticmethod(_all_rows)):
        yield


_subsample = SubsampleMessenger._subsample


def _all_rows(
    name: str, size: int | None = None, subsample_size: int | None = None, subsample: Any = None, *where: Any
) -> Any:
    return _subsample(name, size, None if size is None or subsample is None else subsample_size, subsample, *where)
