"""Prepares a run that has begun on its data: chooses estimators, particles, batches."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..capture.captures import Captures
from ..inputs.arguments import Arguments, arguments
from ..inputs.labels import Labels
from ..objective.elbo import log_weight
from ..pair.batches import Batches, Rows, batch, thinned
from ..pair.pair import Pair, Program, Summed
from ..planning.choose import make_plan, plan_loops
from ..planning.few_rows import few_rows
from ..planning.legal import fullest, in_loops_over_some_rows
from ..planning.plan import Plan
from ..planning.race import how_many
from ..preflight.rows import find_rows
from ..runtime.generators import generator_states, noise, set_generator_states
from ..runtime.parameters import unconstrained
from ..runtime.retries import at_other_draws
from ..runtime.sites import latent, observed, plates
from ..runtime.state import State, entered, refuse_unknown
from ..runtime.vectorise import can_vectorise
from ..updates.natural import Normal
from ..updates.normals import normals
from ..updates.tables import begin_tables
from .begin import Begun
from .settings import Settings
from .shares import part_of, particles_of, rows_of_run, share_of, shuffled, with_compiler
from .steps import Steps
from .window_batches import Streamed, batches_of, entry_of_each_row, rows_at_hand

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
    streamed: Streamed | None = None  # the data, if they do not fit into memory
    scaled: float = 1.0  # by how much the terms of a batch are, also where the model's own plates draw it


def prepare(begun: Begun, settings: Settings) -> Prepared:
    """What the run must know before its first step: estimators, particles, batches. Raises ValueError as `begin`."""
    state, dtype, pair, q, given, *_ = begun
    with entered(state):
        if not unconstrained():
            raise ValueError(
                "the pair has no parameters to train, since all latents are finite: credo.exact(model, *data) has the "
                "posterior in closed form, or says why it has none"
            )
        before = generator_states()
        rows, here = rows_of_run(settings, lambda size: _rows(begun, size)), None
        of_all: poutine.Trace | None = q
        if rows is not None:  # of a batch, what this process takes
            here = rows._replace(size=part_of(settings.workers, rows.size))
            pair, of_all = batch(pair, rows, torch.arange(here.size)), None
        q, p = at_other_draws(lambda number: _traces(pair, of_all))
        if rows is not None and rows.size == rows.in_all:  # of several processes; one would have drawn nothing here
            set_generator_states(before)
        few = None if here is None else few_rows(begun.pair, pair, here)
        plan, vectorised, particles = at_other_draws(lambda number: _planned(pair, q, few, settings, number))
        latents = _numbers({name: site for name, site in latent(p).items() if name in q.nodes}, here)
        crowded = latents > _numbers(observed(p), here)
        moved = normals(pair, settings.seed) if settings.natural else None
    warmup = settings.kl_warmup if settings.kl_warmup is not None else WARMUP if crowded else 0
    found = (begun.fixed_part, frozenset(given.gaps), pair.followers, given.columns, given.codes, _outlines(given))
    plan = plan._replace(place=begun.place, updates="" if moved is None else moved.words)
    known = (state, dtype, plan, vectorised, particles, rows, warmup, latents, pair.summed)
    scaled = thinned(p) * (1.0 if rows is None else rows.in_all / rows.size)
    return Prepared(*known, *found, () if moved is None else moved.pairs, begun.streamed, scaled)


def _rows(begun: Begun, size: int) -> Rows:
    """How the data is cut into batches. What is wrong with some rows is said of all, if these are at hand."""
    names, streamed = begun.given.names, begun.streamed
    if streamed is not None:
        seen, own = begun.some or begun.pair, streamed.source.rows
        rows = find_rows(seen, min(size, len(seen.data[own[0]]) // 2), names, begun.frames)
        if rows.arguments != own:
            shown = ", ".join(names[i] for i in rows.arguments)
            raise ValueError(
                f"batch_size: more arguments ({shown}) have as many entries than there are with rows of the data "
                f"({', '.join(streamed.source.names_of_rows())}); put them into one argument, or into the model"
            )
        if rows.tables:  # of the window: each would be trained by rows of all later ones
            raise ValueError(entry_of_each_row(min(rows.tables)))
        return rows._replace(n=len(streamed.numbers), size=size, total=streamed.source.n)
    if begun.some is not None:
        with suppress(ValueError):
            rows = find_rows(begun.some, size, names, begun.frames)
            return rows._replace(n=len(begun.pair.data[rows.arguments[0]]))
        return find_rows(begun.pair, size, names)
    return find_rows(begun.pair, size, names, begun.frames)


def prepared_arguments(prepared: Prepared, model: Program, data: tuple[Any, ...]) -> Arguments:
    """The data of a further call, converted as the data of the first call was. model: its signature names the data."""
    if prepared.streamed is not None:
        return rows_at_hand(prepared.streamed, data)
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
    pair: Pair,
    settings: Settings,
    optimiser: Callable[..., torch.optim.Optimizer],
    captures: Captures | None,
    warnings: list[str],
) -> Steps:
    """The steps of a run that has been prepared, before the first of them.

    pair: on all data at hand. optimiser: made for the parameters.
    """
    with entered(prepared.state):
        made = optimiser(unconstrained().values(), pairs=prepared.normals, scaled=prepared.scaled)
        rows = prepared.rows
        tables = None if rows is None or not rows.tables else begin_tables(rows, made)
        batches: Batches | None = shuffled(rows, settings.workers)
        if rows is not None and prepared.streamed is not None:
            batches = batches_of(prepared.streamed, pair, rows, prepared.gaps)
            batches.first, batches.of = share_of(settings.workers)
    return Steps(
        optimiser=made,
        captures=captures,
        state=prepared.state,
        particles=prepared.particles,
        asked=particles_of(settings.workers, settings.particles),
        vectorised=prepared.vectorised,
        batches=batches,
        warnings=warnings,
        precision=settings.precision,
        schedule=settings.schedule,
        quiet=settings.kl_quiet,
        tables=tables,
        workers=with_compiler(settings.workers, prepared.rows),
        seed=settings.seed,
    )


def _traces(pair: Pair, q: poutine.Trace | None) -> tuple[poutine.Trace, poutine.Trace]:
    """Traces of the guide, unless one is given, and of the model at its draws.

    The model draws what the guide leaves out, for each row perhaps; the run goes on as if it had drawn nothing, or
    several processes, each with fewer rows, would not go on as one does. After an error the next try draws anew.
    """
    if q is None:
        q = poutine.trace(pair.guide).get_trace(*pair.data)
    before = generator_states()
    p = poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*pair.data)
    set_generator_states(before)
    return q, p


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
        return rows.in_all / rows.size if rows is not None and plates(site) & rows.plates else 1

    return round(sum(site["value"].numel() * times(site) for site in sites.values()))
