"""Latents whose distribution has `rsample` and whose draws may not be differentiated through all the same."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from pyro import poutine

from .costs import Pair
from .scope import noise
from .sites import drawn, has_rsample, kind, latent
from .smooth import rough_sites

if TYPE_CHECKING:
    from .plan import Plan


def not_pathwise(
    pair: Pair, guide: poutine.Trace, fixed: list[str], kl: Mapping[str, str], vectorised: bool
) -> dict[str, str]:
    """{site: why not}. guide: a trace. fixed: sites that are not asked about. kl: those with an improper prior."""
    every = {name: site for name, site in drawn(guide).items() if kind(site["fn"]) != "Delta"}
    asked = latent(guide, auxiliary=True).keys() - set(fixed)
    sites = {name: site for name, site in every.items() if name in asked and has_rsample(site)}
    held = {name: site["value"] for name, site in every.items() if name not in sites}
    jumping = rough_sites(pair, sites, held, kl, vectorised)
    return dict.fromkeys(jumping, "the log density jumps along its draws (a step, a cast, a detach, a Python branch?)")


def warn_of_jumps(pair: Pair, plan: "Plan", vectorised: bool) -> None:
    """Warns of pathwise sites along whose draws the density jumps where the parameters are now."""
    with noise(0):
        _warn(pair, plan, vectorised)


def _warn(pair: Pair, plan: "Plan", vectorised: bool) -> None:
    with torch.no_grad():
        guide = poutine.trace(pair.guide).get_trace(*pair.data)
    fixed = [name for name in latent(guide, auxiliary=True) if name not in plan.pathwise]
    kl = plan.facts.kl if plan.facts.improper else {}
    for name, why in not_pathwise(pair, guide, fixed, kl, vectorised).items():
        warnings.warn(
            f"site {name!r}: {why} where the run ended, which it did not at the start: the gradients were biased. Fit "
            f"again with plan={{{name!r}: 'score'}}",
            stacklevel=5,
        )
