"""Which values a program computes from the numbers of an argument.

Each result of an operation on these numbers is marked, and what is written into marked memory. Operations that take
nothing but shapes, as `zeros_like`, do not mark their result.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

T = TypeVar("T")

SHAPES = ("zeros_like", "ones_like", "full_like", "empty_like", "rand", "new_")  # names of operations, their beginnings


class Derived(TorchDispatchMode):
    """While it is entered, marks what is computed from the numbers of these tensors."""

    def __init__(self, *sources: torch.Tensor) -> None:
        super().__init__()
        # The tensors are kept, so that no other one gets their memory.
        self.marked = {_memory(source): source for source in sources}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.__name__.startswith(SHAPES) and self.holds(tree_leaves((args, kwargs))):
            self.marked |= {_memory(leaf): leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)}
        return out

    def holds(self, values: Iterable[Any]) -> bool:
        """Whether one of the values is computed from these numbers."""
        return any(isinstance(value, torch.Tensor) and _memory(value) in self.marked for value in values)


def derived(program: Callable[[torch.Tensor], T], source: torch.Tensor) -> tuple[T, Derived]:
    """(program(source), what it computed from the numbers of `source`). The program gets a copy of the source."""
    own = source.clone()
    marks = Derived(own)
    with marks:
        return program(own), marks


def _memory(value: torch.Tensor) -> int:
    """The memory of a tensor, which its views share."""
    return value.untyped_storage()._cdata if value.layout is torch.strided else id(value)
