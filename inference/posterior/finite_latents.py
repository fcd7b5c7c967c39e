"""Finite latents that were summed out, in predictions: drawn given the observations that came with the rows.

    rows of the fit:    z ~ p(z | data, theta),           y* ~ p(y | z, theta)
    other rows:         z ~ p(z | what was given, theta), y* ~ p(y | z, theta) if y was not given,
                        y* ~ p(y | theta) = sum_z p(y, z | theta) if it was: y* must not know it

With nothing given, z comes from its prior.
"""

from collections.abc import Set
from typing import Any

import torch
from pyro import poutine

from ..pair.backward import draw_summed
from ..pair.pair import Program, Summed
from ..runtime.anew import Anew
from ..runtime.held import HeldSites
from ..runtime.sites import deterministic, latent, observed


def finite_given(
    model: Program,
    summed: Summed,
    own: tuple[Any, ...] | None,
    guide: poutine.Trace,
    values: tuple[Any, ...],
    trained: Set[str],
) -> dict[str, torch.Tensor]:
    """One draw of the sites of the model that the summed latents decide, {site: value}; empty if nothing is given.

    own: the data of the fit at these rows; None if the rows are not the fit's. guide: a trace with the values of other
    latents. values: the arguments of the prediction. trained: the sites that the fit observed. Rows whose continuous
    latents are drawn anew get their finite latents from the prior with them.
    """
    replayed = poutine.replay(model, trace=guide)
    given = poutine.trace(replayed).get_trace(*values)
    unseen = latent(given).keys() - guide.nodes.keys() - summed.sites
    if own is None and (unseen - trained or not observed(given)):
        return {}
    data, left_out = (values, frozenset(unseen)) if own is None else (own, frozenset())
    replayed = HeldSites(draw_summed(model, guide, data, summed, left_out))(replayed)
    trace = poutine.trace(replayed if own is None else Anew()(replayed)).get_trace(*values)
    sites = latent(trace) | deterministic(trace)
    return {name: site["value"] for name, site in sites.items() if name not in guide.nodes}


def same_rows(values: tuple[Any, ...], data: tuple[Any, ...]) -> bool:
    """Whether these arguments are the data of the fit, observations that were left out aside."""
    for value, own in zip(values, data, strict=False):
        if isinstance(value, torch.Tensor) and isinstance(own, torch.Tensor):
            if value.shape != own.shape or not torch.equal(value, own):
                return False
        elif value is not None and value is not own and type(value) is type(own) and value != own:
            return False
    return any(value is not None for value in values)
