"""A model and a guide with the data that they are functions of."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Summed(NamedTuple):
    """The finite latents to sum out of a model."""

    sites: frozenset[str]
    nesting: int  # dimensions, from the right, that plates and batches take
    guided: bool = True  # whether there is a guide that could sample them; for messages


Program = Callable[..., Any]


class Pair(NamedTuple):
    """A model and a guide with the data they are functions of.

    summed: the finite latents the guide leaves out. factor: by which the sites in plates over rows are scaled.
    followers: the latents with masked entries that follow the model, see `masked.py`.
    """

    model: Program
    guide: Program
    data: tuple[Any, ...]
    summed: Summed | None = None
    factor: float = 1.0
    followers: frozenset[str] = frozenset()
