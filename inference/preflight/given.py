"""Checks a pair on the data that it was given, which it must neither change nor misread."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch.distributions import constraints

from ..distributions.unwrap import kind, support_of
from ..inputs.arguments import Arguments
from ..inputs.datasets import tensors_in
from ..inputs.labels import listed
from ..pair.pair import Pair, Program
from ..runtime.generators import noise
from ..runtime.sites import observed
from .check import Checked, checked
from .gaps import naming_gaps, refuse_gaps
from .misused import naming_misused
from .outer import outer_column
from .support import refuse_no_tensor
from .whole_numbers import misread


def check_given(model: Program, guide: Program, given: Arguments) -> Checked:
    """What `checked` returns for the pair on all of its data.

    Raises ValueError naming the argument, besides those that `checked` raises: for data that the pair changes, for
    missing values that count, and for vectors that become matrices.
    """
    with refusing_changes(given), naming_misused(given), naming_gaps(given.gaps), naming_lengths(given):
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
    _refuse_labels_as_numbers(pair, given)
    return found._replace(warnings=[*found.warnings, *misread(pair, given.names)])


@contextmanager
def checking_model(model: Program, given: Arguments) -> Iterator[list[str]]:
    """The same checks of a model without a guide, at draws from its prior, and of all its runs inside.

    Yields warnings of what the model makes of its data.
    """
    prior: Program = poutine.block(model, hide_fn=lambda msg: msg["type"] != "sample" or msg["is_observed"])
    pair = Pair(model, prior, given.values)
    with refusing_changes(given), naming_misused(given), naming_lengths(given), _naming_data(given):
        if any(not isinstance(value, torch.Tensor) for value in given.values):
            with noise(0), torch.no_grad():
                trace = poutine.trace(model).get_trace(*given.values)
            for name, site in observed(trace).items():
                refuse_no_tensor(name, site)
        if given.gaps:
            refuse_gaps(pair, given.gaps)
        if column := outer_column(pair, given.names):
            raise ValueError(column)
        _refuse_labels_as_numbers(pair, given)
        yield misread(pair, given.names)


def _refuse_labels_as_numbers(pair: Pair, given: Arguments) -> None:
    """Raises ValueError for three labels or more whose codes a site observes as measurements or counts."""
    coded = {
        name: value for name, value in zip(given.names, given.values, strict=True) if len(given.codes.get(name, ())) > 2
    }
    if not coded:
        return
    with noise(0), torch.no_grad():
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
        trace = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data)
    for site_name, site in observed(trace).items():
        support = support_of(site["fn"])
        counts = support is constraints.nonnegative_integer
        for name, value in coded.items():
            seen = site["value"]
            if (counts or getattr(support, "is_discrete", True) is False) and seen.shape == value.shape:
                if torch.equal(seen.double(), value.double()):
                    raise ValueError(
                        f"site {site_name!r}: {kind(site['fn'])} would take the codes of the labels of {name}, "
                        f"{listed(given.codes[name])}, for numbers; observe labels by a Categorical, or, if numbers "
                        f"are meant, pass numbers: pandas.Categorical({name}).codes"
                    )


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
    """An error inside about sizes becomes one that names the arguments of these sizes."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        first = str(error).split("\n")[0]
        if not re.search("size|shape|rows in dim", first):
            raise
        said = {int(word) for word in re.findall(r"\d+", first)}
        rows: dict[int, str] = {}
        one_row, matrices = [], []
        for name, value, columns in zip(given.names, given.values, given.columns, strict=True):
            if not isinstance(value, torch.Tensor) or not value.dim():
                continue
            if len(value) in said:
                rows.setdefault(len(value), name)
            if value.dim() == 2 and len(value) == 1 and value.shape[1] in said - {1}:
                one_row.append((name, tuple(value.shape)))
            if columns is not None and len(value) in said:
                matrices.append((name, f"shape {tuple(value.shape)}, of the columns {columns}"))
        if len(rows) >= 2:
            (n, one), (m, other), *_ = rows.items()
            why = f"{one} has {n} rows and {other} has {m}, and the pair cannot use them together: {error}"
        elif one_row:
            name, shape = one_row[0]
            why = f"{name} has shape {shape}, one row; pass {name}.reshape(-1) if these are {shape[1]} rows: {error}"
        elif matrices:
            name, made = matrices[0]
            why = (
                f"{name} is a matrix of {made}; if it is one column, call that {name!r}, or pass it by itself: {error}"
            )
        else:
            raise
        raise ValueError(why) from error


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
        place = _changed(value, state)
        if place is not None:
            part = f"{name}{place}"
            raise ValueError(
                f"{part}: the model or the guide changes this argument in place (with {part} -= ..., {part}[i] = ..., "
                f"or a method that ends in _), so that each run would get other data; write {part} = {part} - ..., or "
                f"begin with {part} = {part}.clone()"
                if not place
                else f"{part}: the model or the guide changes {part} in place, replaces it, or takes it out of {name}, "
                f"so that each run would get other data; give the new value a name of its own, x = {part} - ..."
            ) from error


def _shown(value: Any) -> str:
    label = type(value).__name__
    return f"{label} of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else label


def _state(value: Any) -> dict[str, tuple[Any, Any]]:
    """{place in an argument: (the tensor or array there, what a change in place of it alters)}."""
    return {place: (part, _version(part)) for place, part in tensors_in(value).items()}


def _version(part: Any) -> Any:
    return (part._version, part.shape) if isinstance(part, torch.Tensor) else hash(np.asarray(part).tobytes())


def _changed(value: Any, before: dict[str, tuple[Any, Any]]) -> str | None:
    """The first place in an argument that holds other numbers than before; None if there is none.

    Entries that are added to a dictionary, and entries that are converted (to another dtype, say), are no change.
    """
    now = tensors_in(value)
    for place, (part, version) in before.items():
        if place not in now or (now[place] is part and _version(part) != version):
            return place
        if now[place] is not part and not _same(now[place], part):
            return place
    grown = [place for place in now if place not in before and re.sub(r"\[\d+\]$", "[0]", place) in before]
    return grown[0] if grown else None


def _same(one: Any, other: Any) -> bool:
    """Whether two tensors, arrays or tables hold the same values, in whatever type."""
    a, b = (np.asarray(part.detach().cpu() if isinstance(part, torch.Tensor) else part) for part in (one, other))
    if a.dtype.kind in "biuf" and b.dtype.kind in "biuf":
        return np.array_equal(a.astype(np.float64), b.astype(np.float64), equal_nan=True)
    return a.shape == b.shape and bool(np.all(a == b))
