"""What may be done with each latent site, found by looking at the pair; and where not, why not.

sampled     its distribution has no parameters: a draw, and no gradient is due
local       a Normal weight whose layer draws for each row anew (Kingma, Salimans and Welling 2015); flipout: the same
            with random signs (Wen et al. 2018)
pathwise    differentiated along its draw (`rsample`, Kingma and Welling 2014)
enumerate   finite: summed over, no draw
one-flip    units of finite support: each summed over, given the others (Titsias and Lazaro-Gredilla 2015)
score       the score function (Williams 1992)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine

from ..distributions.unwrap import is_plain, kind, unwrapped
from ..estimators.analytic_kl import known_kl
from ..estimators.coupled import coupled_plates
from ..estimators.dependencies import Dependencies, dependencies
from ..estimators.enumerate import TIED, finite_sites
from ..estimators.local import local_sites
from ..estimators.pathwise import not_pathwise
from ..estimators.sticking_the_landing import stl_is_legal
from ..pair.costs import Key, run, summed_model
from ..pair.local_reparam import PER_ROW
from ..pair.pair import Pair
from ..runtime.generators import noise
from ..runtime.probes import parameters_moved
from ..runtime.sites import Site, has_rsample, latent, plates

ESTIMATORS = (
    "sampled",
    "enumerate",
    "one-flip",
    "local",
    "flipout",
    "pathwise",
    "score",
)  # in the order of choice where nothing is measured


MOST_FLIPS = 256  # runs


class Facts(NamedTuple):
    """What was found out about a pair.

    options: {site: {estimator: None where it is legal, else why not}}. kl: {site of the guide: that of the model whose
    prior it is held against} where KL is known and right, no_kl: why not elsewhere. no_sticking: why log q may not be
    differentiated along the draw alone, again: sites whose log q must be taken anew for that. values: supports of
    finite sites. coupled: {site: plates in which its rows look at each other}. improper: whether a prior has nothing
    but its KL.
    """

    options: Mapping[str, Mapping[str, str | None]] = {}
    reads: Dependencies = Dependencies({})
    kl: Mapping[str, str] = {}
    no_kl: Mapping[str, str] = {}
    no_sticking: str | None = None
    again: frozenset[str] = frozenset()
    values: Mapping[str, torch.Tensor] = {}
    coupled: Mapping[str, frozenset[str]] = {}
    improper: bool = False


def facts(pair: Pair, guide: poutine.Trace, vectorised: bool, drawn: frozenset[str] = frozenset()) -> Facts:
    """Looks at a pair, of whose guide a trace is given. drawn: finite sites that are not to be summed over.

    vectorised: whether `vmap` accepts the pair.
    """
    sites = latent(guide, auxiliary=True)
    model = poutine.trace(poutine.replay(summed_model(pair), trace=guide)).get_trace(*pair.data)
    nesting = None if pair.summed is None else pair.summed.nesting
    fixed = [name for name, site in sites.items() if not _trained(site)]
    discrete = [name for name, site in sites.items() if not has_rsample(site) and name not in fixed]
    reads = dependencies(pair)
    values, unsummed = finite_sites(pair, guide, [n for n in discrete if n not in drawn], vectorised)
    known = known_kl(guide, model, reads, nesting)
    jumps = not_pathwise(pair, guide, fixed, known.kl if known.improper else {}, vectorised)
    coupled = coupled_plates(pair, reads)
    for name, cause in unsummed.items():
        if TIED in cause:  # all values were tried there, here a few
            coupled[name] = plates(sites[name])
    moving = _moving_supports(pair, [n for n in sites if n not in fixed and n not in values])
    paths = [n for n, site in sites.items() if has_rsample(site) and n not in jumps and n not in fixed]
    rows = local_sites(pair, paths, known.kl)
    where = run(pair).plates if discrete else {}
    options = {}
    for name, site in sites.items():
        word, smooth = kind(site["fn"]), has_rsample(site)
        drawn_only, finite = name in fixed and not smooth, name in discrete
        no_units, no_values = f"{word} has no units of finite support", f"{word} has no finite support with parameters"
        leaving = [k for k in reads.moved_by(name) if not plates(site) <= where.get(k, frozenset())] if finite else []
        options[name] = {
            "sampled": None if drawn_only else f"{word} depends on parameters and would lose its gradient",
            "enumerate": None if name in values else unsummed.get(name, no_values),
            "one-flip": _no_flips(site, coupled.get(name), leaving, vectorised) if finite else no_units,
            **{how: rows[how].get(name, "it is not differentiated along its draw") for how in PER_ROW},
            "pathwise": jumps.get(name) if smooth else f"{word} has no rsample",
            "score": "a Delta has no density" if word == "Delta" else moving.get(name),
        }
    again = [n for n, s in sites.items() if reads.ancestors(n) or not is_plain(s["fn"])]
    sticking = None if stl_is_legal(pair) else "the guide draws noise of its own: log q is no function of the draws"
    return Facts(options, reads, known.kl, known.why, sticking, frozenset(again), values, coupled, known.improper)


def fullest(pair: Pair, guide: poutine.Trace) -> poutine.Trace:
    """Of some traces of the guide that with the most sites: a branch may draw latents of its own.

    Raises ValueError for one that it lacks and that has no path: its gradient would be missing.
    """
    traces = [guide, *(poutine.trace(pair.guide).get_trace(*pair.data) for _ in range(16))]
    best = max(traces, key=lambda trace: len(latent(trace, auxiliary=True)))
    for trace in traces:
        for name, site in latent(trace, auxiliary=True).items():
            if name not in best.nodes and not has_rsample(site) and _trained(site):
                raise ValueError(
                    f"site {name!r}: the guide draws it in some runs, and in others what those lack, so that no plan "
                    f"holds them all; draw it in every run and let the model's branch leave it unread"
                )
    return best


def _trained(site: Site) -> bool:
    """Whether the site's distribution depends on parameters, its own or those of a draw it was given."""
    value = site["value"]
    held = value.detach() if isinstance(value, torch.Tensor) else value
    try:
        return bool(site["fn"].log_prob(held).requires_grad)
    except KeyError:  # of a transform's cache
        raise ValueError(
            f"site {site['name']!r}: its flow has no inverse in closed form, so that log q is known at its own draws "
            f"alone; take one that has (spline_coupling, affine_coupling, affine_autoregressive)"
        ) from None


def _no_flips(site: Site, coupled: frozenset[str] | None, leaving: list[Key], vectorised: bool) -> str | None:
    """Why the units of a site may not be summed over one by one, or None.

    coupled: plates in which its rows look at each other. leaving: costs outside of its plates that it moves.
    """
    fn = site["fn"]
    base = unwrapped(fn)
    if not getattr(base, "has_enumerate_support", False) or base.event_shape:
        return f"{kind(fn)} has no units of finite support"
    try:
        runs = fn.event_shape.numel() * (len(base.enumerate_support(expand=False)) - 1)
    except NotImplementedError:
        return f"the units of this {kind(fn)} differ in their values"
    if runs > MOST_FLIPS:
        return f"{runs:,} runs, one for each other value of each unit, are too many"
    if not vectorised:
        return "the pair cannot be run for many values at once"
    if coupled:
        return f"rows of plate {', '.join(sorted(coupled))} look at each other"
    return f"{leaving[0][1]!r} outside its plate depends on it" if leaving else None


def _moving_supports(pair: Pair, names: list[str]) -> dict[str, str]:
    """{site: why the score function is wrong}: the support of its distribution moves with the parameters.

    The score sees what a draw's probability does, not draws that a parameter makes impossible.
    """
    found: dict[str, str] = {}
    cause = "its support moves with the parameters, which the score function does not see"
    with torch.no_grad(), noise(0):
        q = poutine.trace(pair.guide).get_trace(*pair.data)
        for _ in range(4):
            with parameters_moved(0.1):
                other = poutine.trace(pair.guide).get_trace(*pair.data)
            for name in names:
                if name not in other.nodes or name not in q.nodes:
                    continue
                for fn, drawn in (
                    (q.nodes[name]["fn"], other.nodes[name]["fn"]),
                    (other.nodes[name]["fn"], q.nodes[name]["fn"]),
                ):
                    if kind(fn) != "Delta" and _outside(fn, drawn):
                        found[name] = cause
    return found


def _outside(fn: Any, drawn: Any) -> bool:
    try:
        values = drawn.sample((50,))
        return bool((~torch.isfinite(fn.log_prob(values)) & torch.isfinite(drawn.log_prob(values))).any())
    except (NotImplementedError, RuntimeError, ValueError):
        return False
