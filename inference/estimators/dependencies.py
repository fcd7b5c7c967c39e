"""Which draws each log density of a pair depends on.

Provenance: draws carry their names through every operation into the log densities; a value that escapes into Python
(`if z > 0`, `z.item()`, `x[z]`, an assignment in place) is in everything that comes after (see `provenance`). A
dataflow test finds what provenance has missed: with the named draws held, and the generator too, resampling all others
must move nothing. A cost that moves is taken to depend on all that was drawn before it.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..distributions.unwrap import kind
from ..pair.costs import DATA, GUIDE, PRIOR, Costs, Key, Run, run
from ..pair.pair import Pair
from ..runtime.generators import noise
from ..runtime.probes import at_a_draw, differing, look_near, probing
from ..runtime.sites import Site, drawn_sites, is_index, latent
from ..runtime.traced import traced
from ..runtime.vectorise import each
from .provenance import by_provenance

OFF = (0.0, 0.1, 0.1)  # dataflow tests: at the parameters and at two places nearby, sds
SETS = 24  # of draws that are held in turn, at most; of more, FEW and as many random halves of all draws at each place
FEW = 4
TOGETHER = 2**18  # numbers drawn and costs, up to which the sets are tried at once
Values = Mapping[str, torch.Tensor]  # {site: its draw}


class Dependencies(NamedTuple):
    """parents: {cost (side, site): the draws that its distribution depends on, without the draw of the site itself}."""

    parents: Mapping[Key, frozenset[str]]

    def moved_by(self, site: str, kl: Mapping[str, str] | None = None) -> list[Key]:
        """The costs whose expectation depends on the draw of a site; a KL takes the place of both sides of its site.

        kl: {site of the guide: the site of the model whose prior it is compared with}.
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
        """The sites of the guide whose draws depend on the draw of this site."""
        return frozenset(name for (side, name), parents in self.parents.items() if side == GUIDE and site in parents)


def dependencies(pair: Pair, vectorised: bool = False) -> Dependencies:
    """Which draws each cost depends on: by provenance, corrected where the dataflow test finds it wrong.

    vectorised: whether `vmap` accepts the pair.
    """
    with probing(tuple(pair)):
        q, p = at_a_draw(lambda _: _both_traced(pair))
        before = _by_order(q, p)
        if pair.summed is not None:  # sites summed over together are one cost, which may depend on all
            every = frozenset(latent(q, auxiliary=True))
            before = {key: before[key] if key in before else every for key in at_a_draw(lambda _: run(pair)).costs}
        found = by_provenance(pair)
        parents = {key: found.get(key, names) & names for key, names in before.items()}
        for key in _missed(pair, parents, vectorised):
            parents[key] = before[key]
    return Dependencies(parents)


def _both_traced(pair: Pair) -> tuple[poutine.Trace, poutine.Trace]:
    q = traced(pair.guide, pair.data)
    return q, traced(poutine.replay(pair.model, trace=q), pair.data)


def _by_order(q: poutine.Trace, p: poutine.Trace) -> dict[Key, frozenset[str]]:
    """{cost: all that was drawn before it}: the most that it can depend on."""
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


def _missed(pair: Pair, parents: Mapping[Key, frozenset[str]], vectorised: bool = False) -> set[Key]:
    """The costs that move while all draws in `parents` are held; all costs where this cannot be found out."""
    moved: set[Key] = set()
    for off in OFF:
        try:
            moved |= look_near(lambda: _missed_here(pair, parents, vectorised), off)
        except Exception:  # of the user's own code, which may raise anything
            if not off:
                return set(parents)
    return moved


def _missed_here(pair: Pair, parents: Mapping[Key, frozenset[str]], vectorised: bool) -> set[Key]:
    """The same at the present parameters."""
    z, other, before = at_a_draw(lambda _: _two_draws_with_costs(pair))
    with_own: dict[Key, frozenset[str]] = {}
    for (side, name), names in parents.items():  # a point is held by what it follows
        own = {name} if name in z else {name} | parents.get((GUIDE, name), frozenset())
        with_own[side, name] = names | own
    by_set: dict[frozenset[str], list[Key]] = {}
    for key, names in with_own.items():
        by_set.setdefault(names, []).append(key)
    sets = sorted(by_set, key=sorted)
    moved: set[Key] = set()
    if len(sets) > SETS:  # what few draws move is tested by halves that hold them, a quarter of the pairs by each
        halves = [frozenset(k for k, coin in zip(z, torch.rand(len(z)), strict=True) if coin < 0.5) for _ in range(FEW)]
        some = [sets[i] for i in torch.randperm(len(sets))[:FEW].tolist()]
        tested = {held: [names for names in sets if names & z.keys() <= held] for held in halves} | {
            s: [s] for s in some
        }
    else:
        tested = {held: [held] for held in sets}

    of_set = {held: [key for names in within for key in by_set[names]] for held, within in tested.items()}

    def after_others(held: frozenset[str], number: int) -> Costs:
        new = two_draws(pair)[1] if number else other  # the same for all sets, unless the pair fails there
        return costs_at(pair, _with_others(z, new, held)).costs

    for held in _moving_together(pair, of_set, z, other, before) if vectorised else of_set:
        after = at_a_draw(partial(after_others, held))
        moved |= {key for key in of_set[held] if key not in before or differing(before[key], after.get(key)).any()}
    return moved


def _with_others(z: Values, other: Values, held: frozenset[str]) -> dict[str, torch.Tensor]:
    """The draws z, but those that are not held are the others."""
    return {k: v if k in held else other.get(k, v) for k, v in z.items()}


def _moving_together(
    pair: Pair, of_set: Mapping[frozenset[str], list[Key]], z: Values, other: Values, before: Costs
) -> list[frozenset[str]]:
    """The sets of held draws that have a cost of theirs move where all sets are tried at once, under `vmap`.

    A cost that moves here may move by its rounding or by noise of the model. All sets where this cannot be found out.
    """
    rows = [z, *(_with_others(z, other, held) for held in of_set)]
    if len(rows) * sum(v.numel() for v in (*z.values(), *before.values())) > TOGETHER:
        return list(of_set)
    try:
        with noise(0):
            stacked = {k: torch.stack([row[k] for row in rows]) for k in z}
            after = each(lambda values: run(pair, values).costs, stacked, vectorised=True)
    except Exception:  # of the user's own code, which may raise anything
        return list(of_set)
    return [
        held
        for i, (held, keys) in enumerate(of_set.items(), start=1)
        if any(key not in after or differing(after[key][0], after[key][i]).any() for key in keys)
    ]


def two_draws(pair: Pair) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Values of all draws of the guide, and other values that differ wherever a few tries find some."""
    sites = random_draws(traced(pair.guide, pair.data))
    return {k: s["value"] for k, s in sites.items()}, {k: another(s["fn"], s["value"]) for k, s in sites.items()}


def _two_draws_with_costs(pair: Pair) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Costs]:
    z, other = two_draws(pair)
    return z, other, costs_at(pair, z).costs


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


def random_draws(trace: poutine.Trace) -> dict[str, Site]:
    """The sites that the guide draws, without points (Delta) and indices of rows."""
    sites = drawn_sites(trace).items()
    return {name: s for name, s in sites if not is_index(s) and kind(s["fn"]) != "Delta"}
