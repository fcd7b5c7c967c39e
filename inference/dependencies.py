"""What depends on what in a pair, found by looking and not by asking.

Provenance: the values drawn carry their names through every operation into the log densities; a value that escapes into
Python (`if z > 0`, `z.item()`, `x[z]`, an assignment in place) is in everything that comes after. What provenance has
missed a dataflow test finds: with the named draws held, and the generator too, resampling all others must move nothing.
What moves all the same is taken to depend on all that was drawn before it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.ops.provenance import ProvenanceTensor, detach_provenance, get_provenance
from pyro.poutine.messenger import Messenger
from torch.utils._pytree import tree_map

from .costs import DATA, GUIDE, PRIOR, Key, Pair, Run, run
from .looks import differing, elsewhere, without_dropout
from .scope import noise
from .sites import Site, drawn, is_index, kind, latent, plates

LOOKS, SETS = 3, 24  # dataflow tests: at the parameters and twice a little off, of so many sets of draws at most


class Dependencies(NamedTuple):
    """Of each cost (side, site): the draws that its distribution depends on, those of the site itself left out."""

    parents: Mapping[Key, frozenset[str]]

    def moved_by(self, site: str, kl: Mapping[str, str] | None = None) -> list[Key]:
        """The costs whose expectation depends on the draw of a site, a KL standing in for both sides of its site.

        kl: {site of the guide: that of the model whose prior it is held against}.
        """
        keys, kl = [], kl or {}
        for key, parents in self.parents.items():
            side, name = key
            if side == PRIOR and name in kl.values():
                continue
            closed = side == GUIDE and name in kl
            of = parents | (self.parents.get((PRIOR, kl[name]), frozenset()) if closed else {name})
            if site in of or any(site in self.ancestors(parent) for parent in of):
                keys.append(key)
        return keys

    def ancestors(self, site: str) -> frozenset[str]:
        """The draws of the guide that the site's own draw depends on."""
        return self.parents.get((GUIDE, site), frozenset())

    def descendants(self, site: str) -> frozenset[str]:
        """The sites of the guide whose draws depend on that of this site."""
        return frozenset(name for side, name in self.parents if side == GUIDE and site in self.ancestors(name))


def dependencies(pair: Pair) -> Dependencies:
    """Provenance, mended where the dataflow test finds it wanting."""
    with torch.no_grad(), without_dropout(tuple(pair)):
        q = poutine.trace(pair.guide).get_trace(*pair.data)
        p = poutine.trace(poutine.replay(pair.model, trace=q)).get_trace(*pair.data)
        before = _by_order(q, p)
        if pair.summed is not None:  # sites summed over together are one cost, which may depend on all
            every = frozenset(latent(q, auxiliary=True))
            before = {key: before[key] if key in before else every for key in costs_at(pair, {}).costs}
        found = _by_provenance(pair)
        parents = {key: found.get(key, names) & names for key, names in before.items()}
        for key in _missed(pair, parents):
            parents[key] = before[key]
    return Dependencies(parents)


def _by_order(q: poutine.Trace, p: poutine.Trace) -> dict[Key, frozenset[str]]:
    """The most that each cost can depend on: what was drawn before it."""
    names = latent(q, auxiliary=True)
    before: dict[Key, frozenset[str]] = {}
    so_far: frozenset[str] = frozenset()
    for name in names:
        before[GUIDE, name] = so_far
        so_far |= {name}
    so_far = frozenset()
    nodes: dict[str, Site] = dict(p.nodes)
    for name, site in nodes.items():
        if site["type"] != "sample" or is_index(site) or site["infer"].get("_deterministic"):
            continue
        before[DATA if site["is_observed"] else PRIOR, name] = so_far - {name}
        if name in names:
            so_far |= {name} | before[GUIDE, name]
    return before


ESCAPES = {"__bool__", "item", "__int__", "__float__", "__index__", "tolist", "numpy", "__array__"}
ESCAPES |= {"__contains__", "__iter__"}  # a draw taken apart is a list of Python's
INTO = {"__setitem__", "copy_", "index_put_", "scatter_", "masked_fill_"}  # what they write into may be untracked


def _tracking(escaped: set[str]) -> Any:
    """The function (tensor, names) -> a tensor that knows the draws it was made from and notes those that escape."""

    class Tracked(ProvenanceTensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names = get_provenance([args, kwargs or {}])
            if getattr(func, "__name__", "") in ESCAPES | INTO:
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
    """Gives every draw its name to carry, and notes what had escaped into Python when a site was reached."""

    def __init__(self, escaped: set[str]) -> None:
        super().__init__()
        self.so_far, self.track = escaped, _tracking(escaped)
        self.escaped: dict[str, frozenset[str]] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        self.escaped[msg["name"]] = frozenset(self.so_far)
        if not msg["is_observed"] and not is_index(msg):
            msg["value"] = self.track(msg["value"], frozenset([msg["name"]]))


def _by_provenance(pair: Pair) -> dict[Key, frozenset[str]]:
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
    except Exception:  # the pair does what tracked tensors cannot: it goes by the order then
        return {}
    return found


def _missed(pair: Pair, parents: Mapping[Key, frozenset[str]]) -> set[Key]:
    """The costs that move though all the draws they are said to depend on are held."""
    with_own: dict[Key, frozenset[str]] = {}
    moved: set[Key] = set()
    for look in range(LOOKS):
        with elsewhere(0.1 if look else 0.0):
            z, other = two_draws(pair)
            for (side, name), names in parents.items():  # a point is held by what it follows
                own = {name} if name in z else {name} | parents.get((GUIDE, name), frozenset())
                with_own[side, name] = names | own
            sets = sorted(set(with_own.values()), key=sorted)
            before = costs_at(pair, z).costs
            for held in sets[:: -(-len(sets) // SETS)]:
                after = costs_at(pair, {k: v if k in held else other[k] for k, v in z.items()}).costs
                for key, names in with_own.items():
                    if names == held and (key not in before or differing(before[key], after.get(key)).any()):
                        moved.add(key)
    return moved


def coupled_plates(pair: Pair, reads: Dependencies) -> dict[str, frozenset[str]]:
    """{site: the plates in which one row's draw moves the costs of other rows}, itself or through later draws."""
    sites = _draws(poutine.trace(pair.guide).get_trace(*pair.data))
    found = {name: set(rows) for name, rows in _coupled_directly(pair, list(sites)).items()}
    for name in reversed(sites):  # what is drawn last comes first
        for later in reads.descendants(name) & sites.keys():
            found[name] |= plates(sites[name]) - plates(sites[later]) | (found[later] & plates(sites[name]))
    return {name: frozenset(rows) for name, rows in found.items()}


def _coupled_directly(pair: Pair, names: list[str]) -> dict[str, set[str]]:
    """The same with all other draws held."""
    found: dict[str, set[str]] = {name: set() for name in names}
    first = int(torch.randint(2**31, ()))
    for look in range(LOOKS if names else 0):
        with torch.no_grad(), elsewhere(0.1 if look else 0.0), without_dropout(tuple(pair)):
            trace = poutine.trace(pair.guide).get_trace(*pair.data)
            values = {name: site["value"] for name, site in _draws(trace).items()}
            before = costs_at(pair, values)
            for name in values.keys() & set(names):
                site: Site = trace.nodes[name]
                value = values[name]
                for frame in site["cond_indep_stack"]:
                    if not frame.vectorized or frame.size < 2:
                        continue
                    axis = value.dim() - len(site["fn"].event_shape) + frame.dim
                    row = (first + look) % frame.size  # of two or three rows, each
                    changed = value.clone()
                    changed.select(axis, row).copy_(another(site["fn"], value).select(axis, row))
                    if _moved_elsewhere(before, costs_at(pair, values | {name: changed}), frame, row):
                        found[name].add(frame.name)
    return found


def two_draws(pair: Pair) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Values for all that the guide draws, and others that differ wherever a few tries find some."""
    trace = poutine.trace(pair.guide).get_trace(*pair.data)
    sites = _draws(trace)
    return {k: s["value"] for k, s in sites.items()}, {k: another(s["fn"], s["value"]) for k, s in sites.items()}


def costs_at(pair: Pair, values: Mapping[str, torch.Tensor]) -> Run:
    """A run with these draws held, and the generator too."""
    with noise(0):
        return run(pair, values)


def another(fn: Any, value: torch.Tensor) -> torch.Tensor:
    """A draw that differs from this one wherever a few tries find one."""
    new = fn.sample()
    for _ in range(8):
        same = new == value
        if not same.any():
            break
        new = torch.where(same, fn.sample(), new)
    return new


def _draws(trace: poutine.Trace) -> dict[str, Site]:
    """What the guide draws, points and indices of rows left out."""
    sites = drawn(trace).items()
    return {name: s for name, s in sites if not is_index(s) and kind(s["fn"]) != "Delta"}


def _moved_elsewhere(before: Run, after: Run, frame: Any, row: int) -> bool:
    """Whether a cost in this plate changed in another row than this one."""
    for key, cost in before.costs.items():
        if before.dims[key].get(frame.name) != frame.dim or cost.dim() < -frame.dim or key not in after.costs:
            continue
        if cost.shape[frame.dim] != frame.size or after.costs[key].shape != cost.shape:
            continue
        moved = differing(cost, after.costs[key]).movedim(frame.dim, 0)
        if moved[torch.arange(frame.size) != row].any():
            return True
    return False
