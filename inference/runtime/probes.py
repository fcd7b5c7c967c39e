"""What has to be changed for a moment to see how a pair behaves, and is put back; and whether anything came of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .parameters import unconstrained
from .reachable import find_modules


@contextmanager
def parameters_moved(sd: float = 0.1) -> Iterator[None]:
    """The parameters a little off, at random: a weight that starts at zero hides what depends on it."""
    leaves = list(unconstrained().values())
    before = [p.detach().clone() for p in leaves]
    try:
        with torch.no_grad():
            for p in leaves:
                p.add_(sd * torch.randn_like(p))
        yield
    finally:
        with torch.no_grad():
            for p, value in zip(leaves, before, strict=True):
                p.copy_(value)


@contextmanager
def without_dropout(things: tuple[object, ...]) -> Iterator[None]:
    """Dropout layers that these things reach are off: they draw noise that no site holds."""
    reached = {m: None for root in find_modules(things) for m in root.modules() if "Dropout" in type(m).__name__}
    on = [m for m in reached if m.training]
    try:
        for m in on:
            m.training = False
        yield
    finally:
        for m in on:
            m.training = True


def nearly_equal(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Whether these are the same but for rounding."""
    finite = two[two.isfinite()]
    slack = 1e-5 * max(1.0, finite.abs().max().item() if finite.numel() else 1.0)
    return torch.allclose(one, two, rtol=1e-4, atol=slack, equal_nan=True)


def differing(one: torch.Tensor, two: torch.Tensor | None) -> torch.Tensor:
    """Where these differ, to the last bit; everywhere if the second is missing or has another shape."""
    if two is None or two.shape != one.shape:
        return torch.ones_like(one, dtype=torch.bool)
    return (one != two) & ~(one.isnan() & two.isnan())
