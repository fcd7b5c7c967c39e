"""Moves parameters and turns dropout off for a while, to see how a pair behaves; compares what came of it.

Random generators are put back by `generators`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import torch

from .parameters import unconstrained
from .reachable import find_modules
from .vectorise import is_out_of_memory

T = TypeVar("T")
PLACES = (0.0, 0.1)  # sds by which a probe moves the parameters: where they are, and a little off
SHORTER = (1.0, 0.1, 0.01)  # of the move: the next where the pair cannot be run at the end of the one before
ENGINE = Path(__file__).parents[1]
DRAWS = 10  # at which a probe is tried, where some draws raise an error


@contextmanager
def probing(things: tuple[object, ...], off: float | None = None) -> Iterator[None]:
    """Inside: no gradients, no dropout in the networks that `things` reach, parameters moved at random by `off`.

    off: the sd of the move. 0.0 leaves the parameters as they are, but draws the same random numbers as any other;
    None draws none.
    """
    with torch.no_grad(), nullcontext() if off is None else parameters_moved(off), without_dropout(things):
        yield


@contextmanager
def parameters_moved(sd: float = 0.1) -> Iterator[None]:
    """Moves every parameter by normal noise with this sd inside: a weight of zero hides what depends on it."""
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


def look_near(look: Callable[[], T], sd: float) -> T:
    """What `look` returns with every parameter moved by normal noise with this sd, or with less where it fails there.

    A parameter without a constraint may hold a probability of 0.97 or a covariance, which a long move makes invalid.
    Raises the error of `look` where it fails after the shortest move too.
    """
    for shorter in SHORTER:
        try:
            with parameters_moved(sd * shorter):
                return look()
        except Exception:
            if not sd or shorter == SHORTER[-1]:
                raise
    raise AssertionError("a look returns or raises")


def at_a_draw(look: Callable[[int], T]) -> T:
    """What `look(try)` returns for the first of 0, 1, ... at which it raises no error: a few draws may raise one.

    A draw may have no density: its covariance has no Cholesky factor, or the program refuses its value.
    """
    for number in range(DRAWS - 1):
        try:
            return look(number)
        except Exception as error:  # of the user's own code, which may raise anything
            if is_credos(error) or is_out_of_memory(error):
                raise
    return look(DRAWS - 1)


def is_credos(error: Exception) -> bool:
    """Whether credo found a mistake: not an error of the user's program, or of a library, or one explained by credo."""
    where = error.__traceback__ if error.__cause__ is None else None
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    if where is None or where.tb_frame.f_code.co_name.startswith("__torch_"):  # it hands torch's functions on
        return False
    return Path(where.tb_frame.f_code.co_filename).is_relative_to(ENGINE)


@contextmanager
def without_dropout(things: tuple[object, ...]) -> Iterator[None]:
    """Turns dropout layers that these things reach off inside: dropout draws noise that no site holds."""
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
    """Whether two tensors are equal up to rounding: 1e-4 of each entry plus 1e-5 of the largest magnitude of `two`.

    NaN equals NaN. The largest magnitude counts as at least 1.
    """
    finite = two[two.isfinite()]
    slack = 1e-5 * max(1.0, finite.abs().max().item() if finite.numel() else 1.0)
    return torch.allclose(one, two, rtol=1e-4, atol=slack, equal_nan=True)


def differing(one: torch.Tensor, two: torch.Tensor | None) -> torch.Tensor:
    """Where two tensors differ, to the last bit: booleans of the shape of `one`.

    True everywhere if `two` is missing or has another shape. NaN equals NaN.
    """
    if two is None or two.shape != one.shape:
        return torch.ones_like(one, dtype=torch.bool)
    return (one != two) & ~(one.isnan() & two.isnan())
