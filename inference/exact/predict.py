"""What follows from draws of a posterior: the posterior predictive, and the deterministic sites.

p(y* | x*, data) = E[p(y* | x*, z) | data],   by draws z ~ p(z | data), y* ~ p(y* | x*, z)
"""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from ..pair.pair import Pair
from ..posterior.explained import naming_arguments, refuse_missing
from ..posterior.local_latents import sources
from ..posterior.prediction import one_prediction
from ..runtime.held import HeldSites
from ..runtime.sites import deterministic
from ..runtime.vectorise import draw_each
from .block_posterior import Draws


def predict(model: Callable[..., Any], data: tuple[Any, ...], values: tuple[Any, ...], draws: Draws, n: int) -> Draws:
    """n draws of the observed and deterministic sites at these arguments: {site: shape (n, *shape of the site)}.

    data: of the posterior. draws: n draws of all latents given it. Latents of rows other than its own are drawn from
    the model given the others, and returned too; see `credo.predict`. Raises ValueError for a subsampled plate.
    """

    def pair(point: Draws) -> Pair:
        def guide(*_: Any) -> None:
            for name, value in point.items():
                if name:
                    pyro.sample(name, dist.Delta(value, event_dim=value.dim()))

        return Pair(model, guide, data)

    with naming_arguments(pair({}), values):
        first = {name: value[0] for name, value in draws.items()}
        found = sources(pair(first), values)
        refuse_missing(pair({}), values, lambda: list(one_prediction(pair(first), values, found).drawn.values()))
        points = {**draws, "": torch.zeros(n)}  # "": counts the runs even if there is no latent
        return draw_each(lambda point: one_prediction(pair(point), values, found).drawn, points)


def deterministic_at(model: Callable[..., Any], data: tuple[Any, ...], draws: Draws) -> Draws:
    """The deterministic sites of the model at these draws of its latents: {site: shape (n, *shape of the site)}."""

    def at(point: Draws) -> Draws:
        sites = deterministic(poutine.trace(HeldSites(point)(model)).get_trace(*data))
        return {name: site["value"] for name, site in sites.items()}

    first = {name: value[0] for name, value in draws.items()}
    return draw_each(at, draws) if first and at(first) else {}
