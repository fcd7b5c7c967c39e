"""One draw of a prediction: latents from their sources, the rest from the model.

The latents that the guide has at the rows of the fit come first, so that several batches of rows can share their draws.
"""

from typing import Any, NamedTuple

from pyro import poutine

from ..pair.pair import Pair
from ..runtime.anew import Anew
from ..runtime.held import HeldSites
from ..runtime.sites import deterministic, latent, refuse_subsampled
from ..runtime.vectorise import draw
from .approximation import Approximation, pair_of
from .continued import ContinuedSites
from .joint_rows import JointRows, last_rows
from .local_latents import Sources
from .sample import Values


class Prediction(NamedTuple):
    """One draw of a prediction."""

    drawn: Values  # what the model drew: observed and deterministic sites, latents of new rows
    held: poutine.Trace  # the sites that had their values from the guide


def kept_latents(pair: Pair, found: Sources) -> Values:
    """One draw of the latents that the guide gives at the rows of the fit. pair: on the data of the fit."""
    return _values(poutine.trace(pair.guide).get_trace(*pair.data), found.kept) if found.kept else {}


def draws_of_kept(fit: Approximation, found: Sources, begin: int, n: int) -> Values:
    """n draws of the latents that a prediction keeps from the guide. The state of the fit has been entered."""
    many = getattr(fit.guide, "joint_draws", None)
    if not found.kept:
        return {}
    if many is None:
        return draw(lambda: kept_latents(pair_of(fit), found), n)
    return {name: value for name, value in many(n).items() if name in found.kept}


def one_prediction(pair: Pair, values: tuple[Any, ...], found: Sources, kept: Values | None = None) -> Prediction:
    """One draw at these arguments. pair: on the data of the fit. found: the sources of its latents.

    kept: a draw of `kept_latents`, or of more latents; None: one is drawn. Raises ValueError for a subsampled plate.
    """
    held = dict(kept_latents(pair, found) if kept is None else kept)
    if found.computed:
        trace = poutine.trace(HeldSites(held)(pair.guide)).get_trace(*values)
        held |= _values(trace, found.computed)
    first = {name: held.pop(name, value) for name, value in found.first.items()}
    with ContinuedSites(held, found), JointRows(first):
        model = poutine.trace(Anew()(pair.model)).get_trace(*found.arguments)
    refuse_subsampled(latent(model))
    sites = latent(model) | deterministic(model)
    hidden = found.kept | found.computed
    drawn = {name: sites[name]["value"] for name in model.nodes if name in sites and name not in hidden}
    if found.first:
        drawn = {name: last_rows(value, found.total, found.rows) for name, value in drawn.items()}
    guide = poutine.Trace()
    guide.nodes.update({name: model.nodes[name] for name in held if name in model.nodes})
    return Prediction(drawn, guide)


def _values(trace: poutine.Trace, names: frozenset[str]) -> Values:
    nodes: dict[str, Any] = dict(trace.nodes)
    return {name: nodes[name]["value"] for name in names}
