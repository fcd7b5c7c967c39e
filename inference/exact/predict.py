"""What follows from draws of a posterior: the posterior predictive, and the deterministic sites.

p(y* | x*, data) = E[p(y* | x*, z) | data],   by draws z ~ p(z | data), y* ~ p(y* | x*, z)
"""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
from pyro import poutine

from ..inputs.call import argument_names
from ..pair.pair import Pair
from ..posterior.explained import naming_arguments, refuse_missing, refuse_other_lengths
from ..posterior.local_latents import sources
from ..posterior.prediction import one_prediction
from ..predictive.batched import Memory, predictions
from ..runtime.generators import generators_kept
from ..runtime.held import HeldSites
from ..runtime.sites import deterministic, observed
from ..runtime.vectorise import draw_each
from .block_posterior import Draws


def predict(
    model: Callable[..., Any],
    data: tuple[Any, ...],
    values: tuple[Any, ...],
    latents: Callable[[int], Draws],
    n: int,
    seed: int,
    options: Memory,
) -> Draws:
    """n draws of the observed and deterministic sites at these arguments: {site: shape (n, *shape of the site)}.

    data: of the posterior. latents: returns so many draws of all latents given it. Latents of rows other than its own
    are drawn from the model given the others, and returned too; see `credo.predict`. Raises ValueError for a subsampled
    plate.
    """
    first = {name: value[0] for name, value in latents(1).items()}

    def guide(*_: Any) -> None:
        for name, value in first.items():
            pyro.sample(name, dist.Delta(value, event_dim=value.dim()))

    pair = Pair(model, guide, data)
    with naming_arguments(pair, values):
        with generators_kept():
            found = sources(pair, values)
            refuse_missing(pair, values, lambda: list(one_prediction(pair, values, found).drawn.values()))

        def kept(begin: int, n: int) -> Draws:
            return {name: value for name, value in latents(n).items() if name in found.kept}

        names = argument_names(model, len(values))
        drawn = predictions(pair, values, found, n, seed, kept, options, names)
    if not found.first:
        trace = poutine.trace(HeldSites(first)(model)).get_trace(*data)
        refuse_other_lengths(pair, values, observed(trace), drawn, reduced=options.reduce is not None)
    return drawn


def deterministic_at(model: Callable[..., Any], data: tuple[Any, ...], draws: Draws) -> Draws:
    """The deterministic sites of the model at these draws of its latents: {site: shape (n, *shape of the site)}."""

    def at(point: Draws) -> Draws:
        sites = deterministic(poutine.trace(HeldSites(point)(model)).get_trace(*data))
        return {name: site["value"] for name, site in sites.items()}

    first = {name: value[0] for name, value in draws.items()}
    return draw_each(at, draws) if first and at(first) else {}
