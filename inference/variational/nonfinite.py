"""Names the site whose log density is not finite, or the parameter whose gradient is not, when a run has diverged."""

import time
from typing import Any

import torch
from pyro import poutine

from ..distributions.unwrap import unwrapped
from ..objective.elbo import log_weight
from ..pair.costs import run
from ..pair.pair import Pair
from ..preflight.impossible import impossible_at, outside_at_the_end, values_drawn
from ..runtime.generators import noise
from ..runtime.parameters import unconstrained
from ..runtime.sites import Site, latent, observed
from ..stepping.bad_steps import in_words

DRAWS, SECONDS = 100, 1.0  # draws of the guide that are tried at most, and for how long


def where_not_finite(pair: Pair) -> str:
    """Words that follow a message, ": site 'y': ...", from draws at the present parameters; empty if all is finite.

    pair: on all data. No parameter and no generator changes.
    """
    begun = time.perf_counter()
    for seed in range(DRAWS):
        with noise(seed):
            try:
                found = _site(pair, seed) or _gradient(pair)
            except Exception as error:  # the program's own words name the site
                found = in_words(error) + _cause_of_error(pair, seed)
        if found:
            return f": {found}"
        if time.perf_counter() - begun > SECONDS:
            break
    return ""


def _cause_of_error(pair: Pair, seed: int) -> str:
    """The latents at whose draws the model raises the error that it raises at this draw; empty if none is known."""
    try:
        with noise(seed), torch.no_grad():
            draw = values_drawn(poutine.trace(pair.guide).get_trace(*pair.data))
    except Exception:  # the guide is what fails
        return ""
    return "" if pair.summed else impossible_at(pair.model, pair.guide, pair.data, draw, None)


def _site(pair: Pair, seed: int) -> str:
    """The first site without a finite log density at the draw of the guide with this noise."""
    with torch.no_grad():
        with noise(seed):
            costs = run(pair).costs
        bad = next((name for (_, name), cost in costs.items() if not torch.isfinite(cost).all()), "")
        if not bad or pair.summed is not None:
            return f"site {bad!r}: log_prob is not finite" if bad else ""
        with noise(seed):  # the same draw, of which the distributions are wanted too
            q = poutine.trace(pair.guide).get_trace(*pair.data)
            p = poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*pair.data)
        for trace in (p, q):
            for name, site in (latent(trace, auxiliary=True) | observed(trace)).items():
                if words := _density(name, site, "guide" if trace is q else "model"):
                    if trace is q:
                        return words
                    return words + impossible_at(pair.model, pair.guide, pair.data, values_drawn(q), name)
    return f"site {bad!r}: log_prob is not finite"


def _density(name: str, site: Site, program: str) -> str:
    """The first value of a site that its distribution gives no finite log density; empty if there is none."""
    density = site["fn"].log_prob(site["value"])
    wrong = (~torch.isfinite(density)).nonzero()
    if not len(wrong):
        return ""
    index = tuple(wrong[0].tolist())
    value = site["value"].expand(site["fn"].batch_shape + site["fn"].event_shape)[index]
    shown = f"{value.item():.6g}" if value.numel() == 1 else f"of shape {tuple(value.shape)}"
    which = "observed value" if site["is_observed"] else "value drawn"
    under = f"{_shown(site['fn'], index)} of the {program}"
    return f"site {name!r}: log_prob is {density[index].item()} under {under}, for the {which} {shown}"


def _shown(fn: Any, index: tuple[int, ...]) -> str:
    """A distribution with the parameters of one of its rows, as far as they are numbers."""
    fn = unwrapped(fn)
    parameters = []
    for name in getattr(fn, "arg_constraints", {}):
        value = fn.__dict__.get(name)
        if name == "logits" and "probs" in fn.__dict__:
            continue
        if isinstance(value, torch.Tensor) and value.shape == fn.batch_shape:
            if len(index) == value.dim():
                parameters.append(f"{name}={value[index].item():.4g}")
    return f"{type(fn).__name__}({', '.join(parameters)})"


def _gradient(pair: Pair) -> str:
    """The first parameter whose gradient is not finite at one draw, though the loss is."""
    leaves = unconstrained()
    with torch.enable_grad():
        weight = log_weight(pair)
        if not weight.requires_grad:
            return ""
        gradients = torch.autograd.grad(weight, list(leaves.values()), allow_unused=True)
    for name, gradient in zip(leaves, gradients, strict=True):
        if gradient is not None and not torch.isfinite(gradient).all():
            outside = "" if pair.summed else outside_at_the_end(pair.model, pair.guide, pair.data)
            return outside or f"the gradient of parameter {name!r} is not finite, though the loss is"
    return ""
