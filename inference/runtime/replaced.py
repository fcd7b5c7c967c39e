"""An attribute of a class or a module, replaced for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
