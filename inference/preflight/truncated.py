"""Refuses distributions whose parameter torch has cut to a whole number: `Binomial(n, 0.5)` with n of integers.

torch makes a Python number a tensor of the type of the tensors beside it. Beside integers 0.5 becomes 0, and a scale of
2.7 becomes 2, without an error.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch.overrides import TorchFunctionMode

from ..distributions.unwrap import kind


@contextmanager
def refuse_truncated() -> Iterator[None]:
    """Inside, a program raises ValueError at the first site whose distribution lost the fraction of a number."""
    with _Truncations() as found, _Refuse(found) as sites:
        try:
            yield
        except Exception as error:  # a scale of 0.5 that became 0, say, which the distribution itself refuses
            if found.lost is None or sites.named:
                raise
            raise ValueError(f"the distribution after {sites.before} has {_loss(found.lost, sites.whole)}") from error


class _Truncations(TorchFunctionMode):
    """Notes the last number that a distribution made a tensor of integers and that was none."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: float | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.tensor and args and isinstance(args[0], float) and not args[0].is_integer():
            maker = sys._getframe(1).f_globals.get("__name__", "")
            if not out.is_floating_point() and maker.split(".")[:2] == ["torch", "distributions"]:
                self.lost = args[0]
        return out


class _Refuse(Messenger):
    """Raises at the site whose distribution was made last."""

    def __init__(self, found: _Truncations) -> None:
        super().__init__()
        self.found = found
        self.whole: list[str] = []  # sites whose values are whole numbers
        self.before, self.named = "the start", False

    def _pyro_sample(self, msg: Any) -> None:
        if self.found.lost is None:
            return
        self.named = True
        name, fn = msg["name"], kind(msg["fn"])
        raise ValueError(f"site {name!r}: {fn} has {_loss(self.found.lost, self.whole)}")

    def _pyro_post_sample(self, msg: Any) -> None:
        value, self.before = msg["value"], f"site {msg['name']!r}"
        if (
            isinstance(value, torch.Tensor)
            and not value.is_floating_point()
            and type(msg["fn"]).__name__ != "_Subsample"
        ):
            self.whole.append(msg["name"])


def _loss(lost: float, whole: list[str]) -> str:
    """What happened to a number, and the remedy. whole: sites whose values are whole numbers."""
    where = f" (site {whole[-1]!r})" if whole else ""
    remedy = f"{whole[-1]}.float()" if whole else "a tensor of floats"
    return (
        f"the number {lost} beside a tensor of whole numbers{where}, and torch cuts it to {int(lost)}; write "
        f"torch.tensor({lost}), or {remedy}"
    )
