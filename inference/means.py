"""What the objective needs to know of a plan."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch

from .costs import Key, Terms
from .legal import ESTIMATORS, Facts
from .local import HOW


class Means(NamedTuple):
    """What the objective needs to know of a plan (see `elbo`)."""

    terms: Terms = Terms()
    values: Mapping[str, torch.Tensor] = {}  # of the enumerated sites
    unmoved: Mapping[str, frozenset[Key]] = {}  # the costs that each of these does not move
    score: Mapping[str, list[Key]] = {}  # the costs that each draw moves
    seen: frozenset[Key] = frozenset()  # the costs that this is known of
    flips: Mapping[str, list[Key]] = {}
    redrawn: Mapping[str, frozenset[str]] = {}
    coupled: Mapping[str, frozenset[str]] = {}
    fixed: frozenset[str] = frozenset()


def carried_out(entries: Iterable[Any], known: Facts) -> Means:
    """Of a plan's entries."""
    entries = list(entries)
    by = {estimator: [e.site for e in entries if e.estimator == estimator] for estimator in ESTIMATORS}
    kl = {e.site: known.kl[e.site] for e in entries if e.term == "KL"}
    sticking = frozenset(e.site for e in entries if e.term == "STL")
    drawn = [*by["score"], *by["one-flip"]]
    terms = Terms(
        kl=kl,
        landed=sticking | frozenset(name for name in drawn if name not in kl),  # the mean of grad log q is zero
        again=sticking & known.again,
        weights=frozenset(drawn) | frozenset(by["sampled"]),
        flips=frozenset(by["one-flip"]),
        local={e.site: e.estimator for e in entries if e.estimator in HOW},
        known=frozenset(e.site for e in entries),
    )
    reach = {name: known.reads.moved_by(name, kl) for name in drawn}
    seen = frozenset(known.reads.parents)
    return Means(
        terms=terms,
        values={name: known.values[name] for name in by["enumerate"]},
        unmoved={name: seen.difference(known.reads.moved_by(name, kl)) for name in by["enumerate"]},
        score={name: reach[name] for name in by["score"]},
        seen=seen,
        flips={name: reach[name] for name in by["one-flip"]},
        redrawn={name: known.reads.descendants(name) for name in by["one-flip"]},
        coupled=known.coupled,
        fixed=frozenset(by["sampled"]),
    )
