"""Which estimators are legal at each latent site, and why the others are not: found by running the pair.

The list below is in the order of choice where nothing is measured. A new estimator is one file in `estimators/`, its
import and one line in the list.
"""

from typing import Any

import torch
from pyro import poutine

from ..distributions.unwrap import is_plain
from ..estimators import enumerate, flipout, local, one_flip, pathwise, sampled, score
from ..estimators.analytic_kl import known_kl
from ..estimators.coupled import coupled_plates
from ..estimators.dependencies import dependencies
from ..estimators.estimator import Estimator, Facts, Findings
from ..estimators.finite_sites import finite_sites
from ..estimators.pathwise import not_pathwise
from ..estimators.sticking_the_landing import why_not as why_not_sticking
from ..estimators.wrong_kl import two_places
from ..pair.costs import run, summed_model
from ..pair.pair import Pair
from ..runtime.probes import at_a_draw
from ..runtime.sites import Site, has_rsample, latent, plates

ESTIMATORS: tuple[Estimator, ...] = (
    sampled.ESTIMATOR,
    enumerate.ESTIMATOR,
    one_flip.ESTIMATOR,
    local.ESTIMATOR,
    flipout.ESTIMATOR,
    pathwise.ESTIMATOR,
    score.ESTIMATOR,
)
BY_NAME = {estimator.name: estimator for estimator in ESTIMATORS}


def examine(
    pair: Pair,
    guide: poutine.Trace,
    vectorised: bool,
    drawn: frozenset[str] = frozenset(),
    partly: frozenset[str] = frozenset(),
) -> Findings:
    """What running the pair shows about its sites, the legal estimators of each among it (`.facts.options`).

    guide: a trace of the guide. drawn: finite sites that must not be summed over. vectorised: whether `vmap` accepts
    the pair.
    """
    seen = _findings(pair, guide, vectorised, drawn | partly)
    absent = dict.fromkeys(partly, "it stands in a loop over some rows of its plate, and a run may lack it")
    seen = seen._replace(unsummed={**seen.unsummed, **absent}, facts=seen.facts._replace(partly=partly))
    found = {estimator.name: estimator.why_not(seen) for estimator in ESTIMATORS}
    options = {name: {word: why[name] for word, why in found.items()} for name in seen.sites}
    return seen._replace(facts=seen.facts._replace(options=options))


def _findings(pair: Pair, guide: poutine.Trace, vectorised: bool, drawn: frozenset[str]) -> Findings:
    """What estimators judge by, before any of them has."""
    sites = latent(guide, auxiliary=True)
    model = poutine.trace(poutine.replay(summed_model(pair), trace=guide)).get_trace(*pair.data)
    trained = frozenset(name for name, site in sites.items() if _is_trained(site))
    finite = tuple(name for name, site in sites.items() if not has_rsample(site) and name in trained)
    reads = at_a_draw(lambda _: dependencies(pair, vectorised))
    summable = finite_sites(pair, guide, [name for name in finite if name not in drawn], vectorised)
    nesting = None if pair.summed is None else pair.summed.nesting
    known = known_kl(two_places(pair, guide, model), reads, nesting)
    improper = known.kl if known.improper else {}
    jumps = not_pathwise(pair, guide, [name for name in sites if name not in trained], improper, vectorised)
    coupled = coupled_plates(pair, reads)
    coupled |= {name: plates(sites[name]) for name in summable.tied}  # all values were tried there, here a few
    again = frozenset(name for name, site in sites.items() if reads.ancestors(name) or not is_plain(site["fn"]))
    facts = Facts({}, reads, *known, at_a_draw(lambda _: why_not_sticking(pair)), again, summable.values, coupled)
    where = at_a_draw(lambda _: run(pair)).plates if finite else {}
    return Findings(pair, guide, vectorised, sites, trained, finite, where, summable.why_not, jumps, facts)


def in_loops_over_some_rows(guide: poutine.Trace) -> bool:
    """Whether a site without a path stands in a sequential plate that takes a part of its rows.

    Each run of the guide has other such sites; a plan must know them all.
    """
    return any(
        not has_rsample(site) and any(is_partial_loop(frame) for frame in site["cond_indep_stack"])
        for site in latent(guide, auxiliary=True).values()
    )


def is_partial_loop(frame: Any) -> bool:
    """Whether a plate is a loop, `for i in pyro.plate(...)`, over a part of its rows."""
    return not frame.vectorized and frame.full_size is not None and frame.full_size > frame.size


def fullest(pair: Pair, guide: poutine.Trace) -> poutine.Trace:
    """Of some traces of the guide that with the most sites: a branch may draw latents of its own.

    Raises ValueError for one that it lacks and that has no path: its gradient would be missing.
    """
    traces = [guide, *(poutine.trace(pair.guide).get_trace(*pair.data) for _ in range(16))]
    best = max(traces, key=lambda trace: len(latent(trace, auxiliary=True)))
    for trace in traces:
        for name, site in latent(trace, auxiliary=True).items():
            if name not in best.nodes and not has_rsample(site) and _is_trained(site):
                raise ValueError(
                    f"site {name!r}: the guide draws it in some runs only, and no run draws all sites, so that no "
                    f"plan holds them all; draw it in every run and let the model's branch leave it unread"
                )
    return best


def _is_trained(site: Site) -> bool:
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
