"""Which draws a log density was computed from: their names travel with the tensors (provenance)."""

from typing import Any

import torch
from pyro import poutine
from pyro.ops.provenance import ProvenanceTensor, detach_provenance, get_provenance
from pyro.poutine.messenger import Messenger
from torch.utils._pytree import tree_map

from ..pair.costs import DATA, GUIDE, PRIOR, Key
from ..pair.pair import Pair
from ..runtime.escapes import ESCAPES, TAKEN_APART
from ..runtime.sites import Site, is_index

INTO = {"__setitem__", "copy_", "index_put_", "scatter_", "masked_fill_"}  # what they write into may be untracked


def _tracking(escaped: set[str]) -> Any:
    """The function (tensor, names) -> a tensor that knows the draws it was made from and records draws that escape."""

    class Tracked(ProvenanceTensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names = get_provenance([args, kwargs or {}])
            if getattr(func, "__name__", "") in ESCAPES | TAKEN_APART | INTO:
                escaped.update(names)
            inputs: Any = [args, kwargs or {}]
            plain, options = detach_provenance(inputs)
            return tree_map(lambda t: tracked(t, names), func(*plain, **options))

    def tracked(value: Any, names: frozenset[str]) -> Any:
        if not isinstance(value, torch.Tensor) or not names:
            return value
        plain: Any = detach_provenance(value)
        found: Any = plain.as_subclass(Tracked)
        found._t, found._provenance = plain, names | get_provenance(value)
        return found

    return tracked


class _Track(Messenger):
    """Gives every draw its name to carry, and records what had escaped into Python when a site was reached."""

    def __init__(self, escaped: set[str]) -> None:
        super().__init__()
        self.so_far, self.track = escaped, _tracking(escaped)
        self.escaped: dict[str, frozenset[str]] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        self.escaped[msg["name"]] = frozenset(self.so_far)
        if not msg["is_observed"] and not is_index(msg):
            msg["value"] = self.track(msg["value"], frozenset([msg["name"]]))


def by_provenance(pair: Pair) -> dict[Key, frozenset[str]]:
    """{cost: the draws in its distribution's parameters, or that had escaped before}; empty if this cannot be seen."""
    found: dict[Key, frozenset[str]] = {}
    try:
        escaped: set[str] = set()
        with _Track(escaped) as guides:
            q = poutine.trace(pair.guide).get_trace(*pair.data)
        with _Track(escaped) as models:
            p = poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*pair.data)
        for trace, side, seen in ((p, PRIOR, models), (q, GUIDE, guides)):
            nodes: dict[str, Site] = dict(trace.nodes)
            for name, site in nodes.items():
                if site["type"] != "sample" or is_index(site):
                    continue
                density = site["fn"].log_prob(detach_provenance(site["value"]))
                names = get_provenance([density, site["scale"], site["mask"]]) | seen.escaped[name]
                if side == GUIDE:
                    names |= get_provenance(site["value"])
                found[DATA if site["is_observed"] else side, name] = names - {name}
    except Exception:  # the pair does what tracked tensors cannot: the caller falls back on the order of draws
        return {}
    return found
