"""Checks a pair on the data that it was given, which it must neither change nor misread."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine

from ..pair.pair import Pair, Program
from ..runtime.arguments import Arguments
from ..runtime.generators import noise
from ..runtime.sites import observed
from .check import Checked, checked
from .gaps import naming_gaps, refuse_gaps
from .outer import outer_column
from .support import refuse_no_tensor


def check_given(model: Program, guide: Program, given: Arguments) -> Checked:
    """What `checked` returns for the pair on all of its data.

    Raises ValueError naming the argument, besides those that `checked` raises: for data that the pair changes, for
    missing values that count, and for vectors that become matrices.
    """
    with refusing_changes(given), naming_gaps(given.gaps), naming_lengths(given):
        try:
            found = checked(model, guide, given.values, given.names)
        except ValueError as error:
            if "log_prob has shape" not in str(error):
                raise
            column = outer_column(Pair(model, guide, given.values), given.names)  # it may be why
            raise ValueError(f"{column}: {error}") if column else error from None
    pair = Pair(model, guide, given.values, found.summed)
    if given.gaps:
        refuse_gaps(pair, given.gaps)
    if column := outer_column(pair, given.names):
        raise ValueError(column)
    return found


@contextmanager
def checking_model(model: Program, given: Arguments) -> Iterator[None]:
    """The same checks of a model without a guide, at draws from its prior, and of all its runs inside."""
    prior: Program = poutine.block(model, hide_fn=lambda msg: msg["type"] != "sample" or msg["is_observed"])
    pair = Pair(model, prior, given.values)
    with refusing_changes(given), naming_lengths(given), _naming_data(given):
        if any(not isinstance(value, torch.Tensor) for value in given.values):
            with noise(0), torch.no_grad():
                trace = poutine.trace(model).get_trace(*given.values)
            for name, site in observed(trace).items():
                refuse_no_tensor(name, site)
        if given.gaps:
            refuse_gaps(pair, given.gaps)
        if column := outer_column(pair, given.names):
            raise ValueError(column)
        yield


@contextmanager
def _naming_data(given: Arguments) -> Iterator[None]:
    """An error of the model's own inside gets a note about the data that it ran on."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ZeroDivisionError) as error:
        shown = ", ".join(f"{name}: {_shown(value)}" for name, value in zip(given.names, given.values, strict=True))
        error.add_note(f"credo: raised while the model ran on the data ({shown})")
        raise


@contextmanager
def naming_lengths(given: Arguments) -> Iterator[None]:
    """An error inside about two sizes that are the lengths of two arguments becomes one that names these arguments."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        first = str(error).split("\n")[0]
        said = {int(word) for word in re.findall(r"\d+", first)} if re.search("size|shape", first) else set()
        rows: dict[int, str] = {}
        for name, value in zip(given.names, given.values, strict=True):
            if isinstance(value, torch.Tensor) and value.dim() and len(value) in said:
                rows.setdefault(len(value), name)
        if len(rows) < 2:
            raise
        (n, one), (m, other), *_ = rows.items()
        raise ValueError(
            f"{one} has {n} rows and {other} has {m}, and the pair cannot use them together: {error}"
        ) from error


@contextmanager
def refusing_changes(given: Arguments) -> Iterator[None]:
    """Raises ValueError, which names the argument, if the programs that run inside change their data in place."""
    before = [_state(value) for value in given.values]
    try:
        yield
    except Exception as error:
        _refuse_changed(given, before, error)
        raise
    _refuse_changed(given, before)


def _refuse_changed(given: Arguments, before: list[Any], error: Exception | None = None) -> None:
    for name, value, state in zip(given.names, given.values, before, strict=True):
        if _state(value) != state:
            raise ValueError(
                f"{name}: the model or the guide changes this argument in place (with {name} -= ..., {name}[i] = ..., "
                f"or a method that ends in _), so that each run would get other data; write {name} = {name} - ..., or "
                f"begin with {name} = {name}.clone()"
            ) from error


def _shown(value: Any) -> str:
    kind = type(value).__name__
    return f"{kind} of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else kind


def _state(value: Any) -> Any:
    return (value._version, value.shape) if isinstance(value, torch.Tensor) else None
