"""Prepares a run on its data: creates the parameters, checks the pair, and chooses estimators, particles, batches."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..capture.captures import Captures
from ..inputs.arguments import Arguments, arguments, works_in_double
from ..inputs.labels import Labels
from ..objective.elbo import log_weight
from ..pair.autoguide import start_elsewhere
from ..pair.batches import Rows, Shuffled, batch, thinned
from ..pair.followers import find_followers
from ..pair.mean_field import MeanField
from ..pair.pair import Pair, Program, Summed
from ..planning.choose import make_plan, plan_loops
from ..planning.few_rows import few_rows
from ..planning.legal import fullest, in_loops_over_some_rows
from ..planning.place import best_place, device_of
from ..planning.plan import Plan
from ..planning.race import how_many
from ..preflight.check import Checked
from ..preflight.given import check_given
from ..preflight.rows import find_rows
from ..runtime.defaults import CPU, choose_device
from ..runtime.generators import noise
from ..runtime.parameters import unconstrained
from ..runtime.reachable import find_modules
from ..runtime.retries import at_other_draws
from ..runtime.sites import latent, observed, plates
from ..runtime.state import State, entered, new_state, refuse_unknown
from ..runtime.vectorise import can_vectorise
from ..updates.natural import Normal
from ..updates.normals import normals
from ..updates.tables import begin_tables
from .settings import Settings
from .steps import Steps

WARMUP = 500  # steps, where latents outnumber the observations and would fall back to the prior at once


class Prepared(NamedTuple):
    """What a run found out about its pair and data before the first step."""

    state: State
    dtype: torch.dtype
    plan: Plan
    vectorised: bool  # whether `vmap` can make all draws of the pair at once
    particles: int
    rows: Rows | None  # how the data is cut into batches
    warmup: int  # steps
    latents: int  # numbers, for the whole data set
    summed: Summed | None  # latents that are summed out of the model
    fixed_part: str | None = None  # what is wrong if every step gets this data
    gaps: frozenset[str] = frozenset()  # the arguments with NaN or infinity that the pair leaves out itself
    followers: frozenset[str] = frozenset()  # latents with masked entries that follow the model
    columns: tuple[list[str] | None, ...] = ()  # of the arguments that came as tables
    codes: Labels | None = None  # of the labels in the data
    outlines: tuple[torch.Tensor | None, ...] = ()  # shapes and types of the first data, without their values
    normals: tuple[Normal, ...] = ()  # of the guide that move by natural gradients
    scaled: float = 1.0  # by how much the terms of a batch are, also where the model's own plates draw it


class Begun(NamedTuple):
    """A run whose parameters exist and whose pair is checked, but that has no plan yet."""

    state: State
    dtype: torch.dtype
    pair: Pair  # on all data
    q: poutine.Trace  # of the guide
    given: Arguments
    warnings: list[str]  # of what looks like a mistake in the pair
    fixed_part: str | None  # what is wrong if every step gets this data
    frames: Mapping[str, Any]  # {plate: its frame} on all data
    place: str = ""  # why the run computes where it does, if credo chose


class _InDouble(Exception):
    """The model turned out to work in double precision."""


def begin(model: Program, guide: Program, settings: Settings, data: tuple[Any, ...]) -> Begun:
    """The data as tensors in the precision of the model, the parameters of the run, and the pair checked.

    model, guide: those to train. Raises ValueError for a mistake in the pair or its data.
    """
    if settings.device is not None:
        return _begin_on(settings.device, model, guide, settings, data)
    if (device := device_of((data, find_modules((model, guide))))) is not None:
        return _begin_on(device, model, guide, settings, data)
    begun = _begin_on(CPU, model, guide, settings, data)
    with entered(begun.state):
        place = best_place(begun.pair, begun.given.names, settings.batch_size, choose_device(None))
    if place.device != CPU:
        begun = _begin_on(place.device, model, guide, settings, data)
    return begun._replace(place=place.why)


def _begin_on(device: torch.device, model: Program, guide: Program, settings: Settings, data: tuple[Any, ...]) -> Begun:
    """The same on this device."""
    double = works_in_double(find_modules((model, guide, data)))
    try:
        return _begin_in(torch.float64 if double else torch.float32, device, model, guide, settings, data)
    except _InDouble:
        return _begin_in(torch.float64, device, model, guide, settings, data)


def _begin_in(
    dtype: torch.dtype, device: torch.device, model: Program, guide: Program, settings: Settings, data: tuple[Any, ...]
) -> Begun:
    """The same in this precision. Raises _InDouble if single precision does not do."""
    given = arguments(settings.model, data, dtype, device, gaps=None, whole=True)
    state = new_state((model, guide, data), settings.seed, device)
    with entered(state):
        try:

            def look(number: int) -> Checked:
                start_elsewhere(guide, number)
                return check_given(model, guide, given)

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
        pair = Pair(model, guide, given.values, summed)
        if found.masked:
            pair = pair._replace(followers=at_other_draws(lambda seed: find_followers(pair, seed)))
    return Begun(state, dtype, pair, q, given, [*given.notices, *found.warnings], found.fixed_part, found.frames)


def _finite_alone(guide: Program, q: poutine.Trace, summed: Summed | None) -> bool:
    """Whether credo's own guide has nothing to draw, since all latents of the model are finite and are summed out."""
    return isinstance(guide, MeanField) and not latent(q) and summed is not None


def prepare(begun: Begun, settings: Settings) -> Prepared:
    """What the run must know before its first step: estimators, particles, batches. Raises ValueError as `begin`."""
    state, dtype, pair, q, given, *_ = begun
    with entered(state):
        if not unconstrained():
            raise ValueError(
                "the pair has no parameters to train, since all latents are finite: credo.exact(model, *data) has the "
                "posterior in closed form, or says why it has none"
            )
        rows = None if settings.batch_size is None else find_rows(pair, settings.batch_size, given.names, begun.frames)
        if rows is not None and rows.size < rows.n:
            pair, of_all = batch(pair, rows, torch.arange(rows.size)), None
        else:
            rows, of_all = None, q
        q, p = at_other_draws(lambda number: _traces(pair, of_all))
        few = None if rows is None else few_rows(begun.pair, pair, rows)
        plan, vectorised, particles = at_other_draws(lambda number: _planned(pair, q, few, settings, number))
        latents = _numbers({name: site for name, site in latent(p).items() if name in q.nodes}, rows)
        crowded = latents > _numbers(observed(p), rows)
        moved = normals(pair, settings.seed) if settings.natural else None
    warmup = settings.kl_warmup if settings.kl_warmup is not None else WARMUP if crowded else 0
    found = (begun.fixed_part, frozenset(given.gaps), pair.followers, given.columns, given.codes, _outlines(given))
    plan = plan._replace(place=begun.place, updates="" if moved is None else moved.words)
    known = (state, dtype, plan, vectorised, particles, rows, warmup, latents, pair.summed)
    scaled = thinned(p) * (1.0 if rows is None else rows.n / rows.size)
    return Prepared(*known, *found, () if moved is None else moved.pairs, scaled)


def prepared_arguments(prepared: Prepared, model: Program, data: tuple[Any, ...]) -> Arguments:
    """The data of a further call, converted as the data of the first call was. model: its signature names the data."""
    refuse_unknown(prepared.state, data)
    to, known = (prepared.dtype, prepared.state.device), (prepared.columns, prepared.codes)
    return arguments(model, data, *to, *known, gaps=prepared.gaps, fitted=prepared.outlines)


def _outlines(given: Arguments) -> tuple[torch.Tensor | None, ...]:
    """The tensors among the arguments on the device "meta", where they have no values."""
    return tuple(
        torch.empty(v.shape, dtype=v.dtype, device="meta") if isinstance(v, torch.Tensor) else None
        for v in given.values
    )


def first_steps(
    prepared: Prepared,
    settings: Settings,
    optimiser: Callable[..., torch.optim.Optimizer],
    captures: Captures | None,
    warnings: list[str],
) -> Steps:
    """The steps of a run that has been prepared, before the first of them. optimiser: made for the parameters."""
    with entered(prepared.state):
        made = optimiser(unconstrained().values(), pairs=prepared.normals, scaled=prepared.scaled)
        rows = prepared.rows
        tables = None if rows is None or not rows.tables else begin_tables(rows, made)
    return Steps(
        optimiser=made,
        captures=captures,
        state=prepared.state,
        particles=prepared.particles,
        asked=settings.particles,
        vectorised=prepared.vectorised,
        batches=None if prepared.rows is None else Shuffled(prepared.rows),
        warnings=warnings,
        precision=settings.precision,
        schedule=settings.schedule,
        quiet=settings.kl_quiet,
        tables=tables,
    )


def _traces(pair: Pair, q: poutine.Trace | None) -> tuple[poutine.Trace, poutine.Trace]:
    """Traces of the guide, unless one is given, and of the model at its draws."""
    if q is None:
        q = poutine.trace(pair.guide).get_trace(*pair.data)
    return q, poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*pair.data)


def _planned(pair: Pair, q: poutine.Trace, few: Pair | None, settings: Settings, number: int) -> tuple[Plan, bool, int]:
    """(the plan, whether `vmap` can make all draws at once, how many particles). number: of the try.

    pair: on one batch. few: the pair on some of its rows, which show what estimators are legal; None: the batch does.
    Planning takes no random numbers of the run.
    """
    with noise(settings.seed + number):
        vectorised = can_vectorise(lambda: log_weight(pair))
        if not vectorised and in_loops_over_some_rows(q):
            plan = plan_loops(pair, settings.overrides, settings.force)
        else:
            seen = few or pair
            q = q if few is None else _traces(few, None)[0]
            trace = q if vectorised else fullest(seen, q)
            plan = make_plan(seen, trace, vectorised, settings.overrides, settings.force)
        vectorised = vectorised and can_vectorise(lambda: log_weight(pair, plan.recipe, True))
        return plan, vectorised, settings.particles or plan.particles or how_many(pair, plan, vectorised)


def _numbers(sites: Mapping[str, Any], rows: Rows | None) -> int:
    """How many numbers the sites hold for the whole data set."""

    def times(site: Any) -> float:
        return rows.n / rows.size if rows is not None and plates(site) & rows.plates else 1

    return round(sum(site["value"].numel() * times(site) for site in sites.values()))
