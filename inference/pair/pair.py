"""A model and a guide with the data that they are functions of."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Summed(NamedTuple):
    """The sites to sum out, and how many dimensions from the right plates and batches take: `nesting`.

    guided: whether there is a guide, which could have them; for messages.
    """

    sites: frozenset[str]
    nesting: int
    guided: bool = True


Program = Callable[..., Any]


class Pair(NamedTuple):
    """A model and a guide with the data they are functions of. summed: the finite latents the guide leaves out."""

    model: Program
    guide: Program
    data: tuple[Any, ...]
    summed: Summed | None = None
