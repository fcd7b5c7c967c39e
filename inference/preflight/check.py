"""Finds mistakes before the first step: runs the model and the guide once and compares their sites.

Pyro warns of a guide that misses a site and trains on; credo raises an error with the name of the site and the remedy.
"""

import difflib
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine

from ..pair.pair import Summed
from ..pair.summed_out import to_sum_out
from ..runtime.sites import Site, latent, observed, shown_plates
from .broadcast import all_at_once, refuse_unbroadcast
from .support import refuse_outside, refuse_single_class


def check(
    model: Callable[..., Any], guide: Callable[..., Any], data: tuple, names: list[str], whole: bool = True
) -> tuple[poutine.Trace, Summed | None]:
    """Runs the pair once on the data and checks it: (a trace of the guide, the sites to sum out of the model).

    names: of the data arguments, for messages. whole: whether this is all of the data; a batch or new rows may be of
    one class. This run creates the parameters.
    Raises ValueError naming a site, what is wrong with it and the remedy.
    """
    given = ", ".join(f"{name}: {_describe(value)}" for name, value in zip(names, data, strict=True))
    with pyro.validation_enabled(True):
        guide_trace = _run("guide", guide, data, given)
        model_trace = _run("model", poutine.replay(model, trace=guide_trace), data, given)
    summed = to_sum_out(model_trace, guide_trace)
    absent = summed.sites if summed is not None else frozenset()
    latents, seen, believed = latent(model_trace), observed(model_trace), latent(guide_trace)
    if not seen:
        raise ValueError(
            f"the model observes nothing with this data ({given}): no site has obs=..., so there is nothing to learn"
        )
    _sites_agree({name: site for name, site in latents.items() if name not in absent}, believed)
    wide = model_trace if summed is None else all_at_once(model, model_trace, data, summed)
    for name, site in seen.items():
        refuse_outside(name, wide.nodes.get(name, site))
        if whole:
            refuse_single_class(name, site)
    for name, site in latents.items():
        if name not in absent:
            _shapes_agree(name, site, believed[name])
    with pyro.validation_enabled(False):
        if summed is not None:  # the data may be impossible at the values drawn, which validation refuses
            model_trace = _run("model", poutine.replay(model, trace=model_trace), data, given)
            latents, seen = latent(model_trace), observed(model_trace)
        model_trace.compute_log_prob()
        groups = [] if summed is None else refuse_unbroadcast(model, guide_trace, data, summed)
    for name, site in (latents | seen).items():
        _plates_declared(name, site)
    costs = {name: site["log_prob"] for name, site in (latents | seen).items()}
    for group in groups:
        costs = {name: cost for name, cost in costs.items() if name not in group.sites}
        if group.name is not None:
            costs[group.name] = group.cost
    for name, cost in costs.items():
        if not torch.isfinite(cost).all():
            bad = cost[~torch.isfinite(cost)].flatten()[0].item()
            raise ValueError(
                f"site {name!r}: log_prob is {bad} at the first draw from the guide; give the guide's parameters "
                f"starting values for which the model has a density, or check the constraint of its parameters"
            )
    return guide_trace, summed


def _run(what: str, program: Callable[..., Any], data: tuple, given: str) -> poutine.Trace:
    try:
        return poutine.trace(program).get_trace(*data)
    except Exception as error:
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


def _sites_agree(model: dict[str, Site], guide: dict[str, Site]) -> None:
    for name in guide:
        if name not in model:
            raise ValueError(
                f"guide site {name!r} is no latent site of the model{_close(name, model)}; the model's latent sites "
                f"are {sorted(model)}. Rename it, or mark it infer={{'is_auxiliary': True}}"
            )
    for name in model:
        if name not in guide:
            raise ValueError(
                f"the guide has no site {name!r}{_close(name, guide)}, a latent site of the model; the guide's sites "
                f"are {sorted(guide)}. Add pyro.sample({name!r}, ...) to the guide"
            )


def _close(name: str, others: dict[str, Site]) -> str:
    match = difflib.get_close_matches(name, others, n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def _shapes_agree(name: str, model: Site, guide: Site) -> None:
    wanted = tuple(model["fn"].batch_shape + model["fn"].event_shape)
    got = tuple(guide["fn"].batch_shape + guide["fn"].event_shape)
    if wanted != got:
        plates = shown_plates(model, "none")
        raise ValueError(
            f"site {name!r}: the guide draws shape {got}, the model wants {wanted} (plates: {plates}); use the same "
            f"plates and event shape in both"
        )


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


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return type(value).__name__
