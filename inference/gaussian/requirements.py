"""Which models have one density in unconstrained space: fixed sites, fixed supports, no parameters, no hidden noise."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide.initialization import InitMessenger, init_to_uniform
from torch.distributions import biject_to

from ..distributions.centre import centre
from ..distributions.finite import values_of
from ..distributions.unwrap import kind, unwrapped
from ..pair.pair import Program, Summed
from ..preflight.check import check
from ..preflight.support import refuse_unscored
from ..runtime.generators import noise
from ..runtime.parameters import unconstrained
from ..runtime.sites import Site, exists_for_some, is_index, latent, observed, quoted, refuse_subsampled

RUNS = 3
TRIES = 100  # starting values of a run, until its density is finite


def refuse_unsampleable(model: Program, data: tuple[Any, ...], names: list[str]) -> Summed | None:
    """The finite latents to sum out; None if there are none. names: of the data arguments, for messages.

    Raises ValueError naming the site or the parameter that a density of fixed unconstrained latents cannot have, with
    a remedy.
    """
    with pyro.validation_enabled(False), noise(0), torch.no_grad():  # `check` has better messages for invalid data
        runs = [start(model, data) for _ in range(RUNS)]
    sites = latent(runs[0])
    for name, site in sites.items():
        if unwrapped(site["fn"]).support.is_discrete and not values_of(site["fn"]):
            raise ValueError(
                f"site {name!r}: {kind(site['fn'])} is discrete and cannot be summed out (infinitely many values, or "
                f"units that are one event or differ in their values), and a gradient is needed; write finite ones as "
                f"Categorical or Bernoulli in a plate, or pass the exact posterior where you have it"
            )
    refuse_subsampled(sites | observed(runs[0]))
    for other in runs[1:]:
        _same_sites(sites, latent(other))
    real = {name: site["value"] for name, site in sites.items() if not values_of(site["fn"])}
    if not real:
        raise ValueError(
            f"the model has finite latents only ({quoted(sites)}), of which credo.exact finds the posterior; a "
            f"gradient needs a continuous one"
        )
    with torch.no_grad():
        _, summed = check(model, _at(model, real), data, names)
        if trained := sorted(unconstrained()):
            raise ValueError(
                f"parameter {trained[0]!r}: no parameters are trained here, so it keeps its initial value; give it "
                f"a prior (pyro.sample), or the value of a fit: poutine.substitute(model, data=fit.params)"
            )
        _deterministic(model, data, real, summed)
    return summed


def start(model: Program, data: tuple[Any, ...]) -> poutine.Trace:
    """A trace of the model at values of order 1, with a finite density if one is found in so many tries.

    Raises the LinAlgError or ArithmeticError of the model where it runs at no such values.
    """
    found, failed = None, None
    for _ in range(TRIES):
        try:
            trace = poutine.trace(InitMessenger(_near)(model)).get_trace(*data)
        except (torch.linalg.LinAlgError, ArithmeticError) as error:  # at these values: no Cholesky factor, say
            failed = error
            continue
        found = trace
        for name, site in observed(trace).items():
            refuse_unscored(name, site)
        if math.isfinite(trace.log_prob_sum()):
            break
    if found is None:
        assert failed is not None
        raise failed
    return found


def _near(site: Site) -> torch.Tensor:
    discrete = is_index(site) or unwrapped(site["fn"]).support.is_discrete
    try:
        value: torch.Tensor = site["fn"].sample() if discrete else init_to_uniform(site)
    except NotImplementedError:  # a prior without draws, as ImproperUniform
        return centre(site["fn"])
    return value


def _at(model: Program, values: dict[str, torch.Tensor]) -> Callable[..., Any]:
    """A guide that samples these latents of the model, each at its given value."""
    alone = poutine.block(model, hide_fn=lambda msg: msg["type"] == "sample" and msg["name"] not in values)
    guide: Callable[..., Any] = InitMessenger(
        lambda site: values[n] if (n := site["name"]) in values else site["fn"]()
    )(alone)
    return guide


def _same_sites(one: dict[str, Site], two: dict[str, Site]) -> None:
    if changing := sorted(one.keys() ^ two.keys()):
        raise ValueError(
            f"{exists_for_some(changing[0], 'values of the other latents')}; a density of a fixed number of "
            f"latents cannot have it: sample it always, and mask its effect"
        )
    for name, site in one.items():
        a, b = site["fn"], two[name]["fn"]
        if values_of(a):
            continue
        if a.shape() != b.shape():
            raise ValueError(
                f"site {name!r} has shape {tuple(a.shape())} or {tuple(b.shape())}, depending on other latents; "
                f"wanted one shape"
            )
        maps = [biject_to(fn.support) for fn in (a, b)]
        point = maps[0].inv(site["value"])
        if not torch.equal(maps[0](point), maps[1](point)):
            raise ValueError(
                f"site {name!r}: its support depends on another latent ({kind(a)}), so the density is cut off where "
                f"that latent moves; sample it on a fixed support and scale it, z = low + (high - low) * u"
            )


def _deterministic(
    model: Program, data: tuple[Any, ...], values: dict[str, torch.Tensor], summed: Summed | None
) -> None:
    """Raises ValueError if the density at one point differs between two runs: noise outside of sample sites."""
    with noise(0):
        draw = poutine.trace(poutine.condition(model, values)).get_trace(*data)
    hidden = summed.sites if summed is not None else frozenset()
    drawn = latent(draw)
    held = {name: drawn[name]["value"] for name in (*values, *hidden) if name in drawn}
    densities = []
    for seed in range(2):
        with noise(seed), pyro.validation_enabled(False):
            densities.append(
                float(poutine.trace(poutine.condition(model, values | held)).get_trace(*data).log_prob_sum())
            )
    if not (math.isclose(*densities, rel_tol=1e-6) or math.isnan(densities[0])):
        raise ValueError(
            f"the log density of the model is {densities[0]:.9g} or {densities[1]:.9g} nats at one and the same "
            f"point: it draws noise that is no site (dropout?); put it into pyro.sample, or leave it out"
        )
