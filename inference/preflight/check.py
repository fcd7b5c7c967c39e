"""Finds mistakes before the first step: runs the model and the guide, and reads what the other files look for.

Pyro warns of a guide that misses a site and trains on; credo raises an error with the name of the site and the remedy.
What a sound program could look like too is a warning. All checks read the same traces: two of each program.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine

from ..pair.masked import masked_latents
from ..pair.pair import Summed
from ..pair.summed_out import to_sum_out
from ..runtime.sites import Site, frames, latent, observed
from .agreement import refuse_other_shape, refuse_other_sites
from .broadcast import all_at_once, refuse_unbroadcast
from .calls import refuse_calls
from .guide_support import narrower, refuse_other_support
from .impossible import impossible_at, values_drawn
from .parameters import ParameterCalls
from .plate_rows import refuse_one_row, refuse_other_event, refuse_shapes
from .pyro_errors import explained
from .roles import refuse_roles
from .support import is_meant, refuse_no_tensor, refuse_outside, refuse_single_class
from .suspicions import Ran, suspicious
from .truncated import refuse_truncated


class Checked(NamedTuple):
    """What the checks of a pair found out."""

    guide: poutine.Trace
    summed: Summed | None  # the sites to sum out of the model
    warnings: list[str]  # of what looks like a mistake and may be none
    fixed_part: str | None  # what is wrong if all steps get this data; None: nothing
    frames: dict[str, Any]  # {plate: its frame}, of both programs
    masked: bool  # whether the model masks entries of a latent that the guide does not


def check(
    model: Callable[..., Any], guide: Callable[..., Any], data: tuple, names: list[str], whole: bool = True
) -> tuple[poutine.Trace, Summed | None]:
    """(A trace of the guide, the sites to sum out of the model), of a pair in which `checked` refuses nothing."""
    found = checked(model, guide, data, names, whole)
    return found.guide, found.summed


def refuse_values(model: Callable[..., Any], guide: Callable[..., Any], data: tuple, names: list[str]) -> None:
    """Raises ValueError for observed values of later rows that `checked` would refuse among the first."""
    given = ", ".join(f"{name}: {_describe(value)}" for name, value in zip(names, data, strict=True))
    ran = _run_both(model, guide, data, given)
    summed = to_sum_out(ran.model, ran.guide)
    wide = ran.model if summed is None else all_at_once(model, ran.model, data, summed)
    for name, site in observed(ran.model).items():
        refuse_shapes(name, site)
        if not is_meant(site):
            refuse_outside(name, wide.nodes.get(name, site))


def explain_index(
    error: Exception, model: Callable[..., Any], guide: Callable[..., Any], data: tuple, names: list[str]
) -> None:
    """Raises what the checks say of data at which torch met an index out of range, such as a label of no class.

    They look at such data only now: a loop of one's own hands other data to each step. It returns if they find nothing.
    """
    if "index" in str(error) and " out of " in str(error):
        try:
            check(model, guide, data, names, whole=False)
        except ValueError as why:
            raise why from error


def checked(
    model: Callable[..., Any], guide: Callable[..., Any], data: tuple, names: list[str], whole: bool = True
) -> Checked:
    """Runs the pair on the data and checks it; the first run creates the parameters.

    names: of the data arguments, for messages. whole: whether this is all of the data; a batch or new rows may be of
    one class, and get no warnings.
    Raises ValueError naming a site, what is wrong with it and the remedy.
    """
    given = ", ".join(f"{name}: {_describe(value)}" for name, value in zip(names, data, strict=True))
    refuse_calls(model, guide, data, names)
    ran = _run_both(model, guide, data, given)
    model_trace, guide_trace = ran.model, ran.guide
    summed = to_sum_out(model_trace, guide_trace)
    absent = summed.sites if summed is not None else frozenset()
    latents, seen, believed = latent(model_trace), observed(model_trace), latent(guide_trace)
    refuse_roles(model_trace, guide_trace, given)
    drawn = {name: site for name, site in latents.items() if name not in absent}
    refuse_other_sites(drawn, believed)
    wide = model_trace if summed is None else all_at_once(model, model_trace, data, summed)
    for name, site in seen.items():
        refuse_no_tensor(name, site)
        refuse_shapes(name, site)
        with _blaming(model, guide, data, guide_trace, name, summed):
            if not is_meant(site):
                refuse_outside(name, wide.nodes.get(name, site))
        if whole:
            refuse_other_event(name, site)
            refuse_single_class(name, site)
    for name, site in drawn.items():
        refuse_other_shape(name, site, believed[name])
    refuse_other_support(drawn, believed)
    with pyro.validation_enabled(False):
        if summed is not None:  # the data may be impossible at the values drawn, which validation refuses
            model_trace = _run("model", poutine.replay(model, trace=model_trace), data, given)
            latents, seen = latent(model_trace), observed(model_trace)
        model_trace.compute_log_prob()
        groups = [] if summed is None else refuse_unbroadcast(model, guide_trace, data, summed)
        for name, site in (latents | seen).items():
            _plates_declared(name, site)
        refuse_one_row(model_trace, data, names)
        costs = {name: site["log_prob"] for name, site in (latents | seen).items()}
        for group in groups:
            costs = {name: cost for name, cost in costs.items() if name not in group.sites}
            if group.name is not None:
                costs[group.name] = group.cost
        _refuse_not_finite(costs, model, guide, data, guide_trace)
        of_traces = frames(guide_trace, model_trace), bool(masked_latents(model_trace, guide_trace))
        if not whole:
            return Checked(guide_trace, summed, [], None, *of_traces)
        found = Ran(model_trace, guide_trace, ran.of_model, ran.of_guide)
        warnings, fixed = suspicious(model, guide, found, data, names)
    return Checked(guide_trace, summed, narrower(drawn, believed) + warnings, fixed, *of_traces)


def _run_both(model: Callable[..., Any], guide: Callable[..., Any], data: tuple, given: str) -> Ran:
    """Traces of the guide and of the model at its draws. An error of the model may be due to a draw of the guide."""
    with pyro.validation_enabled(True):
        with ParameterCalls() as of_guide:
            guide_trace = _run("guide", guide, data, given)
        replayed = poutine.replay(model, trace=guide_trace)
        try:
            with ParameterCalls() as of_model:
                model_trace = _run("model", replayed, data, given)
        except Exception as error:
            if latents := _latents_of_failing(replayed, data):
                believed = latent(guide_trace)
                known = {name: site for name, site in latents.items() if name in believed}
                try:
                    for name, site in known.items():
                        refuse_other_shape(name, site, believed[name])
                    refuse_other_support(known, believed)
                except ValueError as reason:
                    raise reason from error
                for suspicion in narrower(known, believed):
                    error.add_note(f"credo: {suspicion}")
            if isinstance(error, IndexError):
                with _blaming(model, guide, data, guide_trace, None):
                    raise
            raise
    return Ran(model_trace, guide_trace, of_model.calls, of_guide.calls)


def _latents_of_failing(program: Callable[..., Any], data: tuple) -> dict[str, Site]:
    """The latent sites of a program until it fails."""
    trace = poutine.Trace()
    try:
        with pyro.validation_enabled(False), poutine.trace() as tracer:
            trace = tracer.trace
            program(*data)
    except Exception:  # it is the sites until then that are wanted
        pass
    return latent(trace)


def _run(what: str, program: Callable[..., Any], data: tuple, given: str) -> poutine.Trace:
    try:
        with refuse_truncated():
            return poutine.trace(program).get_trace(*data)
    except Exception as error:
        if known := explained(what, error):
            raise known from error
        found = _as_raised(error)
        found.add_note(f"credo: raised while the {what} ran once on the data ({given})")
        raise found from found.__cause__


def _as_raised(error: Exception) -> Exception:
    """The error that the pair's own code raised; if Pyro or torch raised it, the error with Pyro's table of shapes."""
    inner = error
    while "Trace Shapes:" in str(inner) and isinstance(inner.__cause__, Exception):
        inner = inner.__cause__
    where = inner.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    module = where.tb_frame.f_globals.get("__name__", "") if where is not None else ""
    return error if module.split(".")[0] in ("pyro", "torch") else inner


def _plates_declared(name: str, site: Site) -> None:
    plates = {f.dim: f for f in site["cond_indep_stack"] if f.vectorized}
    shape = site["log_prob"].shape
    for dim in range(-1, -len(shape) - 1, -1):
        declared = plates[dim].size if dim in plates else 1
        if shape[dim] not in (1, declared) and declared != -1:  # a plate without a size has any
            value = tuple(site["value"].shape)
            held = ", ".join(f"{f.name} (size {f.size}, dim {f.dim})" for f in plates.values()) or "no plate"
            raise ValueError(
                f"site {name!r}: log_prob has shape {tuple(shape)} for values of shape {value} under {held}; dim {dim} "
                f"of size {shape[dim]} is not declared. Put the site into a pyro.plate of that size, make it part of "
                f"the event with .to_event(), or flatten a column of shape (N, 1) to (N,)"
            )


def _refuse_not_finite(
    costs: dict[str, torch.Tensor], model: Callable[..., Any], guide: Callable[..., Any], data: tuple, q: poutine.Trace
) -> None:
    for name, cost in costs.items():
        if not torch.isfinite(cost).all():
            bad = cost[~torch.isfinite(cost)].flatten()[0].item()
            why = impossible_at(model, guide, data, values_drawn(q), name)
            raise ValueError(
                f"site {name!r}: log_prob is {bad} at the first draw from the guide; give the guide's parameters "
                f"starting values for which the model has a density, or check the constraint of its parameters{why}"
            )


@contextmanager
def _blaming(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: tuple,
    q: poutine.Trace,
    name: str | None,
    summed: Summed | None = None,
) -> Iterator[None]:
    """Adds to an error inside the latents whose draws are its cause. name: of the site that is checked inside."""
    try:
        yield
    except (ValueError, IndexError) as error:
        why = "" if summed is not None else impossible_at(model, guide, data, values_drawn(q), name)
        if not why:
            raise
        raise ValueError(f"{error}{why}") from error


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple | set | dict):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
