"""Which gradient estimator each latent site gets, among the legal ones, with the reason."""

from collections.abc import Mapping

import torch
from pyro import poutine

from ..distributions.finite import values_of
from ..distributions.unwrap import kind
from ..estimators.estimator import ANALYTIC_KL, LOG_Q, Findings
from ..pair.pair import Pair
from ..pair.summed_out import SUMMED_OUT
from ..runtime.sites import latent, plates, shown_plates
from ..runtime.traced import traced
from ..runtime.whole_plates import whole_plates
from .legal import examine, is_partial_loop
from .plan import Plan, baseline_of
from .reasons import nothing_left, reason, refuse_illegal, refuse_unknown, ruled_out
from .table import Entry

MANY = 4  # rows of a plan, which are then one
UNSUMMED = ("one-flip", "score")  # estimators that are asked for where a site could be summed over


def make_plan(
    pair: Pair,
    guide: poutine.Trace,
    vectorised: bool,
    overrides: Mapping[str, str] | Plan | None = None,
    force: bool = False,
    partly: frozenset[str] = frozenset(),
) -> Plan:
    """The plan for the latent sites of the guide, of which a trace is given. vectorised: whether `vmap` accepts it.

    overrides: {site: estimator}, or a whole Plan. Where nothing is measured the first legal one of ESTIMATORS is taken,
    with analytic KL where it is known. partly: sites that a run may lack (see `plan_loops`). force: an override that is
    not legal but can be carried out is only warned of.
    Raises ValueError for an override that names no latent site, no estimator, or one that is not legal there, and for
    a site for which none is: the reasons are named.
    """
    if isinstance(overrides, Plan):
        earlier = {e.site: e for e in overrides.entries if e.estimator != SUMMED_OUT}
        wanted = {name: e.estimator for name, e in earlier.items()}
    else:
        earlier, wanted = {}, dict(overrides or {})
    refuse_unknown(wanted, latent(guide, auxiliary=True))
    seen = examine(pair, guide, vectorised, frozenset(n for n, e in wanted.items() if e in UNSUMMED), partly)
    for name, estimator in wanted.items():
        refuse_illegal(name, estimator, seen, force)
    reasons = {
        (name, word): reason(name, word, name in wanted, seen)
        for name, options in seen.facts.options.items()
        for word, why in options.items()
        if why is None or (force and wanted.get(name) == word)
    }
    entries = [_entry(name, wanted.get(name), reasons, seen) for name in seen.sites]
    entries += _summed_entries(pair, guide)
    plan = Plan(tuple(entries), seen.facts, reasons=reasons, asked=frozenset(wanted)).with_term(ANALYTIC_KL)
    if not isinstance(overrides, Plan):
        return plan
    plan = plan.with_entries(_repeat(e, earlier.get(e.site), plan) for e in plan.entries)
    return plan.with_antithetic(overrides.antithetic)._replace(particles=overrides.particles)


def plan_loops(pair: Pair, overrides: Mapping[str, str] | Plan | None = None, force: bool = False) -> Plan:
    """The plan of a guide with finite sites in a loop over some rows of a plate: `for i in pyro.plate("N", n, size)`.

    It is made with all rows of each plate, so that it knows the sites of every run.
    """
    with torch.no_grad():
        some = latent(traced(pair.guide, pair.data), auxiliary=True)
    loops = {f.name for site in some.values() for f in site["cond_indep_stack"] if is_partial_loop(f)}
    with whole_plates():
        guide = traced(pair.guide, pair.data)
        partly = frozenset(name for name, site in latent(guide, auxiliary=True).items() if plates(site) & loops)
        return make_plan(pair, guide, False, overrides, force, partly)


def _summed_entries(pair: Pair, guide: poutine.Trace) -> list[Entry]:
    """A row for each site that is summed out of the model; one row for the many equal states of a chain."""
    if pair.summed is None:
        return []
    with torch.no_grad():
        trace = traced(poutine.replay(pair.model, trace=guide), pair.data)
    rows = [
        Entry(
            site=name,
            distribution=kind(site["fn"]),
            plates=shown_plates(site),
            estimator=SUMMED_OUT,
            term="-",
            baseline="-",
            reason=f"{values_of(site['fn'])} values, not in the guide: summed out of the model exactly",
        )
        for name, site in latent(trace).items()
        if name in pair.summed.sites
    ]
    if len(rows) > MANY and all(row._replace(site="") == rows[0]._replace(site="") for row in rows):
        return [rows[0]._replace(site=f"{rows[0].site} ... {rows[-1].site}")]
    return rows


def _entry(name: str, wanted: str | None, reasons: Mapping[tuple[str, str], str], seen: Findings) -> Entry:
    """The row of one site: what is wanted, else the first legal estimator."""
    site, options = seen.sites[name], seen.facts.options[name]
    estimator = wanted or next((word for word, why in options.items() if why is None), None)
    if estimator is None:
        raise ValueError(nothing_left(name, options))
    return Entry(
        site=name,
        distribution=kind(site["fn"]),
        plates=shown_plates(site),
        estimator=estimator,
        term=LOG_Q,
        baseline=baseline_of(estimator, kind(site["fn"]), False),
        reason=reasons[name, estimator],
        ruled_out=ruled_out(site, options),
    )


def _repeat(new: Entry, old: Entry | None, plan: Plan) -> Entry:
    if old is None or old.term not in plan.legal_terms(new.site):
        return new
    return old._replace(plates=new.plates)
