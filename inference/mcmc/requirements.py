"""Whether a sampler can draw from the posterior of a model: fixed sites, fixed supports, nothing left to train."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide.initialization import InitMessenger, init_to_uniform
from torch.distributions import biject_to

from ..distributions.finite import values_of
from ..distributions.unwrap import kind, unwrapped
from ..pair.pair import Summed
from ..pair.summed_out import Program
from ..preflight.check import check
from ..preflight.support import refuse_unscored
from ..runtime.generators import noise
from ..runtime.parameters import unconstrained
from ..runtime.sites import Site, is_index, latent, observed, quoted, refuse_subsampled

LOOKS = 3


TRIES = 100


def refuse_unsampleable(model: Program, data: tuple[Any, ...], names: list[str]) -> Summed | None:
    """The finite latents that are to be summed out. names: of the data arguments, for messages.

    Raises ValueError naming the site or the parameter that stands in the way, and what to do.
    """
    with pyro.validation_enabled(False), noise(0), torch.no_grad():  # what is invalid `check` says better
        looks = [_start(model, data) for _ in range(LOOKS)]
    sites = latent(looks[0])
    for name, site in sites.items():
        if unwrapped(site["fn"]).support.is_discrete and not values_of(site["fn"]):
            raise ValueError(
                f"site {name!r}: {kind(site['fn'])} is discrete and cannot be summed out (infinitely many values, or "
                f"units that are one event or differ in their values), and NUTS needs a gradient; write finite ones as "
                f"Categorical or Bernoulli in a plate, or pass the exact posterior where you have it"
            )
    refuse_subsampled(sites | observed(looks[0]))
    for other in looks[1:]:
        _same_sites(sites, latent(other))
    real = {name: site["value"] for name, site in sites.items() if not values_of(site["fn"])}
    if not real:
        raise ValueError(
            f"the model has finite latents only ({quoted(sites)}), of which credo.exact knows the posterior; NUTS is "
            f"for continuous ones"
        )
    with torch.no_grad():
        _, summed = check(model, _at(model, real), data, names)
        if trained := sorted(unconstrained()):
            raise ValueError(
                f"parameter {trained[0]!r}: NUTS trains no parameters, so it would stay at its starting value; give it "
                f"a prior (pyro.sample), or the value of a fit: poutine.substitute(model, data=fit.params)"
            )
        _deterministic(model, data, real, summed)
    return summed


def _start(model: Program, data: tuple[Any, ...]) -> poutine.Trace:
    """A run at values of ordinary size, with a finite density if one is soon found."""
    for _ in range(TRIES):
        trace = poutine.trace(InitMessenger(_near)(model)).get_trace(*data)
        for name, site in observed(trace).items():
            refuse_unscored(name, site)
        if math.isfinite(trace.log_prob_sum()):
            break
    return trace


def _near(site: Site) -> torch.Tensor:
    discrete = is_index(site) or unwrapped(site["fn"]).support.is_discrete
    value: torch.Tensor = site["fn"].sample() if discrete else init_to_uniform(site)
    return value


def _at(model: Program, values: dict[str, torch.Tensor]) -> Callable[..., Any]:
    """A guide that draws these latents of the model, all of them at these values."""
    alone = poutine.block(model, hide_fn=lambda msg: msg["type"] == "sample" and msg["name"] not in values)
    guide: Callable[..., Any] = InitMessenger(lambda site: values.get(site["name"], site["fn"]()))(alone)
    return guide


def _same_sites(one: dict[str, Site], two: dict[str, Site]) -> None:
    if changing := sorted(one.keys() ^ two.keys()):
        raise ValueError(
            f"site {changing[0]!r} is there for some values of the others only; a sampler of a fixed number of "
            f"latents cannot do this: sample it always, and mask what it is used for"
        )
    for name, site in one.items():
        a, b = site["fn"], two[name]["fn"]
        if values_of(a):
            continue
        if a.shape() != b.shape():
            raise ValueError(
                f"site {name!r} has shape {tuple(a.shape())} or {tuple(b.shape())}, by the values of others; wanted one"
            )
        maps = [biject_to(fn.support) for fn in (a, b)]
        point = maps[0].inv(site["value"])
        if not torch.equal(maps[0](point), maps[1](point)):
            raise ValueError(
                f"site {name!r}: its support depends on another latent ({kind(a)}), so the density ends where that one "
                f"moves; sample it on a fixed support and scale it, z = low + (high - low) * u"
            )


def _deterministic(
    model: Program, data: tuple[Any, ...], values: dict[str, torch.Tensor], summed: Summed | None
) -> None:
    """Raises ValueError if the density at one point is not one number: noise that is no site."""
    with noise(0):
        draw = poutine.trace(poutine.condition(model, values)).get_trace(*data)
    hidden = summed.sites if summed is not None else frozenset()
    drawn = latent(draw)
    held = {name: drawn[name]["value"] for name in (*values, *hidden) if name in drawn}
    found = []
    for seed in range(2):
        with noise(seed), pyro.validation_enabled(False):
            found.append(float(poutine.trace(poutine.condition(model, values | held)).get_trace(*data).log_prob_sum()))
    if not (math.isclose(*found, rel_tol=1e-6) or math.isnan(found[0])):
        raise ValueError(
            f"the density of the model is {found[0]:.9g} or {found[1]:.9g} nats at one and the same "
            f"point: it draws noise that is no site (dropout?); put it into pyro.sample, or leave it out"
        )
