"""The posterior predictive from draws of a posterior.

p(y* | x*, data) = E[p(y* | x*, z) | data],   by draws z ~ p(z | data), y* ~ p(y* | x*, z)
"""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine

from ..runtime.anew import Anew
from ..runtime.held import HeldSites
from ..runtime.sites import deterministic, latent, refuse_subsampled
from ..runtime.vectorise import draw_each
from .block_posterior import Draws


def predict(model: Callable[..., Any], data: tuple[Any, ...], draws: Draws, n: int) -> Draws:
    """n draws of the observed and deterministic sites on this data: {site: shape (n, *shape of the site)}.

    draws: n draws of all latents. Latents whose shape differs on this data (another number of rows) are drawn from the
    model given the others. Raises ValueError for a subsampled plate.
    """
    program = Anew()(model)

    def one(point: Draws) -> Draws:
        trace = poutine.trace(HeldSites(point)(program)).get_trace(*data)
        return {
            name: site["value"] for name, site in (latent(trace) | deterministic(trace)).items() if name not in draws
        }

    sites = latent(poutine.trace(program).get_trace(*data))
    refuse_subsampled(sites)
    same = {name: v for name, v in draws.items() if name in sites and sites[name]["fn"].shape() == v.shape[1:]}
    return draw_each(one, {**same, "": torch.zeros(n)})  # "": counts the runs even if no latent is left
