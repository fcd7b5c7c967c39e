"""One draw of a prediction: latents from their sources, the rest from the model."""

from typing import Any, NamedTuple

from pyro import poutine

from ..pair.pair import Pair
from ..runtime.anew import Anew
from ..runtime.held import HeldSites
from ..runtime.sites import deterministic, latent, refuse_subsampled
from .continued import ContinuedSites
from .joint_rows import JointRows, last_rows
from .local_latents import Sources
from .sample import Values


class Prediction(NamedTuple):
    """One draw of a prediction."""

    drawn: Values  # what the model drew: observed and deterministic sites, latents of new rows
    held: poutine.Trace  # the sites that had their values from the guide


def one_prediction(pair: Pair, values: tuple[Any, ...], found: Sources) -> Prediction:
    """One draw at these arguments. pair: on the data of the fit. found: the sources of its latents.

    Raises ValueError for a subsampled plate.
    """
    held = _believed(pair, values, found)
    first = {name: held.pop(name, value) for name, value in found.first.items()}
    with ContinuedSites(held, found), JointRows(first):
        model = poutine.trace(Anew()(pair.model)).get_trace(*found.arguments)
    refuse_subsampled(latent(model))
    sites = latent(model) | deterministic(model)
    hidden = held.keys() | found.kept
    drawn = {name: sites[name]["value"] for name in model.nodes if name in sites and name not in hidden}
    if found.first:
        drawn = {name: last_rows(value, found.total, found.rows) for name, value in drawn.items()}
    guide = poutine.Trace()
    guide.nodes.update({name: model.nodes[name] for name in held if name in model.nodes})
    return Prediction(drawn, guide)


def _believed(pair: Pair, values: tuple[Any, ...], found: Sources) -> Values:
    """One draw of the latents that come from the guide."""
    held: Values = {}
    if found.kept:
        trace = poutine.trace(pair.guide).get_trace(*pair.data)
        held = _values(trace, found.kept)
    if found.computed:
        trace = poutine.trace(HeldSites(held)(pair.guide)).get_trace(*values)
        held |= _values(trace, found.computed)
    return held


def _values(trace: poutine.Trace, names: frozenset[str]) -> Values:
    nodes: dict[str, Any] = dict(trace.nodes)
    return {name: nodes[name]["value"] for name in names}
