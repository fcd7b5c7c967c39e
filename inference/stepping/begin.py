"""Begins a run on its data: the data as tensors in the precision of the model, the parameters, and the pair checked.

Where steps take batches of many rows, the checks look at some of them (`streaming/some_rows.py`): a pass through all
would cost more than a thousand steps. What the checks refuse on some rows they say of all, if these are at hand.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..inputs.arguments import Arguments, arguments, works_in_double
from ..pair.autoguide import start_elsewhere
from ..pair.batches import cut, rows_of
from ..pair.followers import find_followers
from ..pair.mean_field import MeanField
from ..pair.pair import Pair, Program, Summed
from ..planning.place import best_place, device_of
from ..preflight.check import Checked
from ..preflight.given import check_given
from ..runtime.defaults import CPU, choose_device
from ..runtime.parameters import unconstrained
from ..runtime.reachable import find_modules
from ..runtime.retries import at_other_draws
from ..runtime.sites import latent
from ..runtime.state import State, entered, new_state
from ..streaming.resident import rows_in
from ..streaming.some_rows import rows_and_columns, some_rows
from ..streaming.source import Source, source_of
from .from_rows import Programs, compute_from_all
from .settings import Settings
from .window_batches import Streamed, close, entry_of_each_row, open_windows


class Begun(NamedTuple):
    """A run whose parameters exist and whose pair is checked, but that has no plan yet."""

    state: State
    dtype: torch.dtype
    pair: Pair  # on all data at hand
    q: poutine.Trace  # of the guide, on the rows that the checks looked at
    given: Arguments
    warnings: list[str]  # of what looks like a mistake in the pair
    fixed_part: str | None  # what is wrong if every step gets this data
    frames: Mapping[str, Any]  # {plate: its frame} on the rows that the checks looked at
    place: str = ""  # why the run computes where it does, if credo chose
    some: Pair | None = None  # on the rows that the checks looked at; None: on all
    streamed: Streamed | None = None  # the data, if they do not fit into memory


class _Asked(NamedTuple):
    """What a run begins with: the user's programs, options and data, and where it computes."""

    model: Program  # to train
    guide: Program
    settings: Settings
    data: tuple[Any, ...]  # as they came
    given: Arguments
    dtype: torch.dtype
    device: torch.device


class _FollowsRows(ValueError):
    """A parameter has an entry for each row, so that it must come from all of them."""


class _InDouble(Exception):
    """The model turned out to work in double precision."""


def begin(model: Program, guide: Program, settings: Settings, data: tuple[Any, ...]) -> Begun:
    """The data as tensors in the precision of the model, the parameters of the run, and the pair checked.

    model, guide: those to train. Raises ValueError for a mistake in the pair or its data.
    """
    source = source_of(settings.model, data, settings.batch_size)
    given = model, guide, settings, data, source
    if settings.device is not None:
        return _begin_on(settings.device, *given)
    if (device := device_of((data, find_modules((model, guide))))) is not None:
        return _begin_on(device, *given)
    begun = _begin_on(CPU, *given)
    with entered(begun.state):
        place = best_place(begun.some or begun.pair, begun.given.names, settings.batch_size, choose_device(None))
    if place.device != CPU:
        close(begun.streamed)
        begun = _begin_on(place.device, *given)
    return begun._replace(place=place.why)


def _begin_on(device: torch.device, *given: Any) -> Begun:
    """The same on this device."""
    model, guide, _, data, _ = given
    double = works_in_double(find_modules((model, guide, data)))
    try:
        return _begin_in(torch.float64 if double else torch.float32, device, *given)
    except _InDouble:
        return _begin_in(torch.float64, device, *given)


def _begin_in(
    dtype: torch.dtype,
    device: torch.device,
    model: Program,
    guide: Program,
    settings: Settings,
    data: tuple[Any, ...],
    source: Source | None,
) -> Begun:
    """The same in this precision. Raises _InDouble if single precision does not do."""
    streamed = None
    if source is None:
        given = arguments(settings.model, data, dtype, device, gaps=None, whole=True)
    else:
        streamed = open_windows(source, data, settings, dtype, device)
        given, data = streamed.given, source.others
    try:
        return _on_rows(_Asked(model, guide, settings, data, given, dtype, device), streamed)
    except BaseException:
        close(streamed)
        raise


def _on_rows(asked: _Asked, streamed: Streamed | None) -> Begun:
    """The run begun, its pair checked on some of the rows where there are many."""
    given, index = asked.given, _some(asked.given, asked.settings.batch_size)
    seen = given if index is None else given._replace(values=cut(given.values, rows_of(given.values)[0], index))
    try:
        begun = _looked(asked, seen)._replace(streamed=streamed)
        if begun.some is not None or streamed is not None:
            n = rows_of(given.values)[1] if streamed is None else streamed.source.n
            run = Programs(begun.state, begun.pair.model, begun.pair.guide, asked.settings.seed)
            if not compute_from_all(run, seen.values, given.values, n):
                return _looked(asked, given)._replace(streamed=streamed)
        return begun
    except _InDouble:
        raise
    except Exception as error:
        if streamed is not None:  # all rows are not at hand
            error.add_note(_which(streamed, seen, index))
        if streamed is not None or index is None:
            raise
        return _looked(asked, given)  # what is wrong with some rows is said of all


def _some(given: Arguments, batch_size: int | None) -> torch.Tensor | None:
    """The numbers of the rows of the data that the checks look at; None: all."""
    if batch_size is None:
        return None
    try:
        positions, _ = rows_of(given.values)
    except ValueError:  # no argument has rows, which `find_rows` says
        return None
    return some_rows(given.values, positions, batch_size)


def _which(streamed: Streamed, seen: Arguments, index: torch.Tensor | None) -> str:
    """Which rows of all an error speaks of, the first with values that are not finite, and what came whole."""
    source, numbers = streamed.source, streamed.numbers if index is None else streamed.numbers[index]
    words = [f"credo: found on {len(numbers):,} of {source.n:,} rows"]
    for i in source.rows:
        bad = ~rows_and_columns(seen.values[i]).isfinite().all(1).cpu()
        if bad.any():
            words.append(f"{source.names[i]} is not finite in row {int(numbers[bad].min()):,}")
    for name, value in zip(source.names, source.others, strict=True):
        if (n := rows_in(value)) is not None:
            words.append(f"{name}, of length {n:,}, was given whole, since it has no entry for each of them")
    return "; ".join(words)


def _looked(asked: _Asked, seen: Arguments) -> Begun:
    """The run begun, its pair checked on the rows `seen`, which creates the parameters.

    Raises _FollowsRows where a parameter has an entry for each of these rows, if they are not all.
    """
    model, guide, settings, data, given, dtype, device = asked
    state = new_state((model, guide, data), settings.seed, device)
    with entered(state):
        try:

            def look(number: int) -> Checked:
                start_elsewhere(guide, number)
                return check_given(model, guide, seen)

            found = at_other_draws(look)
            q, summed = found.guide, found.summed
        except RuntimeError as error:
            if dtype != torch.float64 and "dtype" in str(error) and "ouble" in str(error):
                raise _InDouble from error
            raise
        drawn = {getattr(site["value"], "dtype", None) for site in latent(q).values()}
        if dtype != torch.float64 and torch.float64 in drawn:
            raise _InDouble
        if not unconstrained() and not _finite_alone(guide, q, summed):
            raise ValueError("the pair has no parameters to train; write them with pyro.param in the guide")
        pair, some = Pair(model, guide, given.values, summed), None
        if seen is not given:
            some = pair._replace(data=seen.values)
            n = len(seen.values[rows_of(given.values)[0][0]])
            if local := [name for name, p in unconstrained().items() if n in p.shape]:
                raise _FollowsRows(entry_of_each_row(local[0]))
        if found.masked:
            here = some or pair
            followers = at_other_draws(lambda seed: find_followers(here, seed))
            pair, some = pair._replace(followers=followers), some and some._replace(followers=followers)
    warnings = [*given.notices, *found.warnings]
    return Begun(state, dtype, pair, q, given, warnings, found.fixed_part, found.frames, some=some)


def _finite_alone(guide: Program, q: poutine.Trace, summed: Summed | None) -> bool:
    """Whether credo's own guide has nothing to draw, since all latents of the model are finite and are summed out."""
    return isinstance(guide, MeanField) and not latent(q) and summed is not None
