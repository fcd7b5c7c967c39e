"""An attribute of a class or a module, or torch's default dtype, replaced for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def attribute_replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Sets `owner.name` to `value` inside, and puts back what was there, also after an error.

    An attribute that `owner` inherits is removed again. Raises AttributeError if there is no such attribute.
    """
    getattr(owner, name)
    is_own = name in vars(owner)
    before = vars(owner).get(name)  # as it is stored: a static method stays one
    setattr(owner, name, value)
    try:
        yield
    finally:
        if is_own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Sets torch's default dtype inside and puts back the one before, also after an error."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
