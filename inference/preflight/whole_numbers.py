"""What a model makes of whole numbers among its data: an index of -1, and large ones that become single precision.

An index of -1 is the last entry in torch, and pandas writes it for a missing category: the rows without a category
would count as rows of the last one. Sound programs leave these rows out of the density, or keep an entry of zeros for
them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from torch.overrides import TorchFunctionMode

from ..inputs.rounding import digits_lost
from ..pair.pair import Pair, Program
from ..runtime.generators import noise
from ..runtime.probes import at_a_draw


def misread(pair: Pair, names: list[str]) -> list[str]:
    """Warnings of missing categories that index the last entry, and of digits that are lost. names: of the arguments.

    The pair runs again only if an argument holds -1 beside other codes, or numbers with more than 7 digits.
    """
    whole = {
        name: value
        for name, value in zip(names, pair.data, strict=True)
        if isinstance(value, torch.Tensor) and value.dtype == torch.int64 and value.layout is torch.strided
    }
    lossy = {name: warning for name, value in whole.items() if (warning := digits_lost(name, value)) is not None}
    missing = {name: value for name, value in whole.items() if _has_missing(value)}
    if not lossy and not missing:
        return []
    watch = _Uses({name: whole[name] for name in lossy}, {})

    def density(model: Program) -> list[torch.Tensor]:
        return [torch.as_tensor(poutine.trace(model).get_trace(*pair.data).log_prob_sum())]

    def look(_: int) -> Program:
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
        model: Program = poutine.replay(pair.model, trace=guide)
        with watch:
            density(model)
        return model

    with noise(0), torch.no_grad(), pyro.validation_enabled(False):
        model = at_a_draw(look)
        warnings = [warning for name, warning in lossy.items() if name in watch.rounded]
        last = last_entries(lambda: density(model), missing)
    return warnings + [_said(name, missing[name], size) for name, size in last.items()]


def last_entries(program: Callable[[], list[torch.Tensor]], missing: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The codes whose -1 the program takes for the last entry: {name: the number of entries}.

    Not those that make no difference to what it returns. missing: {name: codes with -1 among them}.
    """
    watch = _Uses({}, missing)

    def look(number: int) -> tuple[int, list[torch.Tensor]]:
        with noise(1 + number), watch:
            return 1 + number, program()

    seed, as_it_is = at_a_draw(look)

    def matters(name: str) -> bool:
        with noise(seed), _Uses({}, {name: missing[name]}, instead=0):
            other = program()
        return len(other) != len(as_it_is) or not all(map(torch.equal, as_it_is, other))

    return {name: size for name, size in watch.indexed.items() if matters(name)}


def _has_missing(value: Any) -> bool:
    """Whether data are whole numbers from 0, and -1, which may stand for what is missing."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.int64 or value.numel() < 2:
        return False
    least, most = torch.aminmax(value)
    return bool(least == -1 and most >= 0)


def _said(name: str, value: torch.Tensor, size: int) -> str:
    count, most = int((value == -1).sum()), int(value.max())
    also = f", to which {most} belongs too" if most == size - 1 else ""
    return (
        f"{name}: {count} of {value.numel()} values are -1, which the model takes as an index: the last of {size} "
        f"entries{also}. pandas writes -1 for a missing category: leave out these rows, or give them a code and an "
        f"entry of their own, {name}.where({name} >= 0, {size})"
    )


class _Uses(TorchFunctionMode):
    """Notes what torch's functions do with arguments of the model.

    rounded: those that became single precision. indexed: {argument: the number of entries that it is an index of}.
    instead: this index in the place of -1; None leaves it.
    """

    def __init__(
        self, numbers: Mapping[str, torch.Tensor], codes: Mapping[str, torch.Tensor], instead: int | None = None
    ) -> None:
        super().__init__()
        self.numbers, self.codes, self.instead = numbers, codes, instead
        self.rounded: set[str] = set()
        self.indexed: dict[str, int] = {}

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.__getitem__ and self.codes:
            args = (args[0], self._index(*args))
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float32:
            for name, value in self.numbers.items():
                if out.numel() >= value.numel() and any(part is value for part in args):
                    self.rounded.add(name)
        return out

    def _index(self, indexed: torch.Tensor, index: Any) -> Any:
        """The index, perhaps with other numbers in the place of -1."""
        parts = list(index) if isinstance(index, tuple) else [index]
        for i, part in enumerate(parts):
            for name, codes in self.codes.items():
                if not _same(part, codes):
                    continue
                after = [p for p in parts[i + 1 :] if p is not None]
                dim = len([p for p in parts[:i] if p is not None])
                if any(p is Ellipsis for p in parts[:i]):
                    dim = indexed.dim() - 1 - len(after)
                last = indexed.select(dim, -1)
                if (last != 0).any() or not (indexed != 0).any():  # else the entry of zeros that stands for missing
                    self.indexed[name] = indexed.shape[dim]
                if self.instead is not None:
                    parts[i] = torch.where(part < 0, self.instead, part)
        return tuple(parts) if isinstance(index, tuple) else parts[0]


def _same(part: Any, codes: torch.Tensor) -> bool:
    """Whether a part of an index is these codes, perhaps in another shape."""
    if part is codes:
        return True
    known = isinstance(part, torch.Tensor) and part.dtype == codes.dtype and part.numel() == codes.numel()
    return known and torch.equal(part.flatten(), codes.flatten())
