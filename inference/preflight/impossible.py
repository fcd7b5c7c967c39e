"""Names the latents whose draws leave another site without a density: a count below the data, a bound inside of them.

One latent after another gets other values, while the rest of a bad draw is held. Where the site has a density then, the
latent is the cause.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import pyro
import torch
from pyro import poutine
from torch.distributions import constraints

from ..distributions.unwrap import kind, support_of, unwrapped
from ..pair.work import work
from ..runtime.generators import noise
from ..runtime.held import HeldSites
from ..runtime.sites import Site, latent, observed, quoted
from .support import is_meant

DRAWS = 8  # of the guide, whose values a latent gets
PRIOR = 4  # draws of its prior
TIMES = (2.0, 0.5, 10.0, 0.1, 100.0, 0.01)  # the values of the bad draw that it gets too, so many times
PLUS = (1.0, -1.0, 10.0, -10.0, 100.0, -100.0)  # and so much larger
LATENTS = 8  # that are tried
# Microseconds of work, counted in operators, so that a slow machine looks at no fewer runs than a fast one.
WORK, RUNS = 2e6, 20  # for all of this, if so many runs of the model are more
ENDS, LIMIT = 16, 2.5e5  # draws of a finished run, and the work for more than two

Values = Mapping[str, torch.Tensor]
R = TypeVar("R")


def impossible_at(
    model: Callable[..., Any], guide: Callable[..., Any], data: tuple, draw: Values, name: str | None
) -> str:
    """The latents whose draws are the cause, and the remedy, in words that follow a message; empty if none is.

    draw: {latent: value} at which the site `name` of the model has no density; None: at which the model fails.
    """
    runs, spent, found = 0, 0.0, []
    with torch.no_grad(), noise(0), pyro.validation_enabled(False):
        sites = latent(_run(model, data, draw))
        others: list[Values] = []
        for seed in range(1, 1 + DRAWS):
            with suppress(Exception):  # of a guide that fails at some of its draws
                others.append(_values(guide, data, seed))
        for one in [n for n in sites if n in draw and n != name][:LATENTS]:
            fn, old = sites[one]["fn"], draw[one]
            mended: list[torch.Tensor] = []
            for value in (*_moved(fn, old), *_drawn(fn), *(o[one] for o in others if one in o)):
                runs += 1
                if runs > RUNS and spent > WORK:
                    break
                if value.shape != old.shape or (mended and runs > len(TIMES + PLUS)):
                    continue
                possible, each = _counted(partial(_has_density, model, data, {**draw, one: value}, name))
                spent += each
                if possible:
                    mended.append(value)
            if mended:
                found.append(_cause(one, fn, old, mended))
    if not found:
        return ""
    remedy = dict.fromkeys(text for _, text in found)
    return f"; the cause: {' and '.join(text for text, _ in found)}. {' '.join(remedy)}"


def values_drawn(guide: poutine.Trace) -> dict[str, torch.Tensor]:
    """{latent: value} at a draw of the guide, of which a trace is given."""
    return {name: site["value"].detach() for name, site in latent(guide, auxiliary=True).items()}


def outside_at_the_end(model: Callable[..., Any], guide: Callable[..., Any], data: tuple) -> str:
    """The site whose values lie outside of its support at some draws of a trained guide, in words; empty if none do.

    Some densities are finite there, as exp(-x) is for x < 0, so that a run goes on without a word.
    """
    traces: list[poutine.Trace] = []
    bad: list[tuple[str, Values]] = []
    spent = 0.0
    with torch.no_grad(), pyro.validation_enabled(False), suppress(Exception):  # the fit is there: nothing may lose it
        for seed in range(ENDS):
            draw = _values(guide, data, seed)
            with noise(seed):
                trace, each = _counted(partial(_run, model, data, draw))
            traces, spent = [*traces, trace], spent + each
            sites = _sites(traces[-1])
            watched = _watched(traces) if seed else list(sites)
            bad += [(name, draw) for name in watched if not _inside(sites[name])][:1]
            if seed and (not watched or spent > LIMIT):
                break
        if bad:
            name, outside = bad[0]
            why = impossible_at(model, guide, data, outside, name)
            return (
                f"site {name!r}: values lie outside of the support of {kind(_sites(traces[0])[name]['fn'])} at "
                f"{len(bad)} of {len(traces)} draws of the fit{why}"
            )
    return ""


def _sites(trace: poutine.Trace) -> dict[str, Site]:
    return latent(trace) | observed(trace)


def _watched(traces: list[poutine.Trace]) -> list[str]:
    """The sites whose value or support is another in the last trace than in the first: they may leave it.

    Every number is inside the support of a normal.
    """
    first, last = _sites(traces[0]), _sites(traces[-1])
    return [
        name
        for name, site in last.items()
        if name in first
        and support_of(site["fn"]) is not constraints.real
        and not (
            support_of(site["fn"]) is support_of(first[name]["fn"]) and torch.equal(site["value"], first[name]["value"])
        )
    ]


def _values(guide: Callable[..., Any], data: tuple, seed: int) -> dict[str, torch.Tensor]:
    """One draw of the guide."""
    with noise(seed):
        return values_drawn(poutine.trace(guide).get_trace(*data))


def _run(model: Callable[..., Any], data: tuple, draw: Values) -> poutine.Trace:
    """The trace of the model at this draw, as far as it runs."""
    with poutine.trace() as tracer, suppress(Exception):
        with HeldSites(draw):
            model(*data)
    trace: poutine.Trace = tracer.trace
    return trace


def _counted(run: Callable[[], R]) -> tuple[R, float]:
    """(What a run returns, the microseconds of its work by counting)."""
    found: list[R] = []
    counted = work(lambda: found.append(run()), has_run=True)
    return found[0], counted.eager


def _has_density(model: Callable[..., Any], data: tuple, draw: Values, name: str | None) -> bool:
    """Whether the site has a density at this draw; without a name, whether the model runs."""
    try:
        with poutine.trace() as tracer, HeldSites(draw):
            model(*data)
        site: Site = None if name is None else tracer.trace.nodes[name]
        return site is None or (_inside(site) and bool(torch.isfinite(site["fn"].log_prob(site["value"])).all()))
    except Exception:  # whatever a model does at a value that nobody draws
        return False


def _inside(site: Site) -> bool:
    """Whether the value of a site lies within its support; of a distribution that does not say, it does."""
    try:
        return is_meant(site) or bool(unwrapped(site["fn"]).support.check(site["value"]).all())
    except (NotImplementedError, AttributeError, RuntimeError, ValueError):
        return True


def _drawn(fn: Any) -> list[torch.Tensor]:
    """Draws of a latent's prior, if it can be drawn from."""
    with suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
        return [fn.sample() for _ in range(PRIOR)]
    return []


def _moved(fn: Any, old: torch.Tensor) -> list[torch.Tensor]:
    """Other values of a latent, within its support."""
    size = old.double()
    values = [size * times for times in TIMES] + [size + plus for plus in PLUS]
    whole = not old.is_floating_point() or bool((old == old.round()).all())
    values = [(v.round() if whole else v).to(old.dtype) for v in values]
    with suppress(NotImplementedError, RuntimeError, AttributeError):
        values = [v for v in values if bool(support_of(fn).check(v).all())]
    return values


def _cause(name: str, fn: Any, old: torch.Tensor, mended: list[torch.Tensor]) -> tuple[str, str]:
    """(what is wrong with a latent, the remedy)."""
    ways = {math.copysign(1, (v.double() - old.double()).mean().item()) for v in mended}
    extent = {frozenset([1.0]): "too small", frozenset([-1.0]): "too large"}.get(frozenset(ways), "impossible")
    at = f"{name} = {old.item():.6g} is {extent}" if old.numel() == 1 else f"values of {name} are {extent}"
    if getattr(support_of(fn), "is_discrete", False):
        remedy = (
            f"Truncate {name}: give it finitely many values in the model, by dist.Categorical up to a largest one, and "
            f"leave it out of the guide, so that it is summed out; or let the guide draw possible values only"
        )
    else:
        side = {"too small": "begins", "too large": "ends"}.get(extent, "lies")
        remedy = (
            f"Let the guide draw {name} where the data are possible: its support {side} there, as that of "
            f"dist.TransformedDistribution(q, AffineTransform(bound, scale)) of a positive q does"
        )
    return f"{quoted([name])} ({kind(fn)}), whose draws make the data impossible ({at})", remedy
