"""Parameters that no site of a pair is computed from: no gradient can ever reach them."""

from functools import partial

import pyro
import torch
from pyro import poutine

from ..runtime.generators import noise
from ..runtime.parameters import leaves_behind, unconstrained
from ..runtime.probes import at_a_draw
from .pair import Pair

TRACES = 32  # a program may use a parameter in some draws only


def unused_parameters(pair: Pair) -> list[str]:
    """The names of the parameters without a way in the graph to a value or a log density of a site, in TRACES draws.

    A parameter with a gradient of zero is used. One that is detached, or read by `.item()`, is not. A parameter that
    only `pyro.deterministic` shows is used. No parameter, and no generator, changes.
    """
    left = {id(p): name for name, p in unconstrained().items()}
    store = pyro.get_param_store()

    def traced(number: int, attempt: int) -> tuple[poutine.Trace, poutine.Trace]:
        with (
            noise(number + attempt * TRACES),
            store.scope(store.get_state()),
            torch.enable_grad(),
            pyro.validation_enabled(False),
        ):
            guide = poutine.trace(pair.guide).get_trace(*pair.data)
            model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*pair.data)
            for trace in (guide, model):
                trace.compute_log_prob()
        return guide, model

    for number in range(TRACES):
        guide, model = at_a_draw(partial(traced, number))
        sites = [s for trace in (guide, model) for s in trace.nodes.values() if s["type"] == "sample"]
        found = [site.get(what) for site in sites for what in ("value", "log_prob")]
        for leaf in leaves_behind([x for x in found if isinstance(x, torch.Tensor)]):
            left.pop(id(leaf), None)
        if not left:
            break
    return list(left.values())
