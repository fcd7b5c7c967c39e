"""The work of a program by counting its operators: the same on every machine, busy or idle.

    microseconds = 10 * operators + 0.0004 * numbers written + 0.00002 * floating point operations

The weights were fitted to times on one core; each operator carries the Python that called it. In the steps of a run,
which replay a recording, an operator costs 1 microsecond; the count assumes so also for `compile=False`, so that the
same seed takes the same steps. Only ratios of works are used: ratios of measured times would differ from day to day.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

OPERATOR, REPLAYED, NUMBER, FLOP = 10.0, 1.0, 0.0004, 0.00002  # microseconds


class Work(NamedTuple):
    """The operators of a program, and the microseconds of their arithmetic."""

    operators: int
    arithmetic: float

    @property
    def eager(self) -> float:
        """Microseconds of the program run in Python."""
        return self.operators * OPERATOR + self.arithmetic

    @property
    def replayed(self) -> float:
        """Microseconds of its recorded form."""
        return self.operators * REPLAYED + self.arithmetic


def work(program: Callable[[], Any], has_run: bool = False) -> Work:
    """Runs the program twice and counts the second run: what is made once does not count. has_run: one is enough."""
    if not has_run:
        program()
    with _Operators() as counted:
        program()
    return Work(counted.operators, counted.numbers * NUMBER + counted.flops * FLOP)


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operators = self.numbers = self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operators += 1
        leaves = [out] if isinstance(out, torch.Tensor) else tree_leaves(out)
        self.numbers += sum(leaf.numel() for leaf in leaves if isinstance(leaf, torch.Tensor))
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        return out
