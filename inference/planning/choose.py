"""Which gradient estimator each latent site gets, among the legal ones, with the reason."""

from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine

from ..distributions.finite import values_of
from ..distributions.unwrap import kind
from ..pair.pair import Pair, Summed
from ..pair.summed_out import SUMMED_OUT, Program
from ..runtime.sites import latent, shown_plates
from .legal import ESTIMATORS, facts
from .plan import Plan
from .reasons import nothing_left, reason, refuse, ruled_out
from .table import Entry, baseline_of

MANY = 4  # rows of a plan, which are then one


def plan_rows(
    model: Program, guide: poutine.Trace, data: tuple[Any, ...], summed: Summed | None
) -> list[dict[str, Any]]:
    """Of each site that is summed out, a row of the plan. guide: a trace."""
    if summed is None:
        return []
    with torch.no_grad():
        trace = poutine.trace(poutine.replay(model, trace=guide)).get_trace(*data)
    rows = [
        {
            "site": name,
            "distribution": kind(site["fn"]),
            "plates": shown_plates(site),
            "estimator": SUMMED_OUT,
            "term": "-",
            "baseline": "-",
            "reason": f"{values_of(site['fn'])} values, not in the guide: summed out of the model exactly",
        }
        for name, site in latent(trace).items()
        if name in summed.sites
    ]
    if len(rows) > MANY and all({**row, "site": ""} == {**rows[0], "site": ""} for row in rows):
        return [{**rows[0], "site": f"{rows[0]['site']} ... {rows[-1]['site']}"}]  # the states of a chain
    return rows


def make_plan(
    pair: Pair,
    guide: poutine.Trace,
    vectorised: bool,
    overrides: "Mapping[str, str] | Plan | None" = None,
    force: bool = False,
) -> Plan:
    """The plan for the latent sites of the guide, of which a trace is given. vectorised: whether `vmap` accepts it.

    overrides: {site: estimator}, or a whole Plan. Where nothing is measured the first legal one of ESTIMATORS is taken,
    with analytic KL where it is known. force: an override that is not legal but can be carried out is only warned of.
    Raises ValueError for an override that names no latent site, no estimator, or one that is not legal there, and for
    a site for which none is: the reasons are named.
    """
    latents = latent(guide, auxiliary=True)
    given = overrides.entries if isinstance(overrides, Plan) else ()
    repeated = {e.site: e for e in given if e.estimator != SUMMED_OUT}
    wanted = {name: e.estimator for name, e in repeated.items()} if repeated else dict(overrides or {})  # type: ignore[arg-type]
    for name, estimator in wanted.items():
        if name not in latents:
            raise ValueError(f"plan: {name!r} is no latent site of the guide; its sites are {sorted(latents)}")
        if estimator not in ESTIMATORS:
            raise ValueError(
                f"plan: {name!r}: got estimator {estimator!r}, wanted one of {', '.join(map(repr, ESTIMATORS))}"
            )
    known = facts(pair, guide, vectorised, frozenset(n for n, e in wanted.items() if e in ("one-flip", "score")))
    auxiliary = [name for name, site in latents.items() if site["infer"].get("is_auxiliary")]
    reasons = {
        (name, estimator): reason(name, site, estimator, name in wanted, known)
        for name, site in latents.items()
        for estimator in ESTIMATORS
        if known.options[name][estimator] is None or (force and wanted.get(name) == estimator)
    }
    for name, estimator in wanted.items():
        refuse(name, estimator, latents[name], known, auxiliary, force)
    entries = []
    for name, site in latents.items():
        options = known.options[name]
        estimator = wanted.get(name) or next((e for e in ESTIMATORS if options[e] is None), "")
        if not estimator:
            raise ValueError(nothing_left(name, options))
        entries.append(
            Entry(
                site=name,
                distribution=kind(site["fn"]),
                plates=shown_plates(site),
                estimator=estimator,
                term="log q",
                baseline=baseline_of(estimator, kind(site["fn"]), False),
                reason=reasons[name, estimator],
                ruled_out=ruled_out(site, options),
            )
        )
    entries += [Entry(**row) for row in plan_rows(pair.model, guide, pair.data, pair.summed)]
    plan = Plan(tuple(entries), known, reasons=reasons, asked=frozenset(wanted)).with_term("analytic KL")
    if not isinstance(overrides, Plan):
        return plan
    plan = plan.with_entries(_repeat(e, repeated.get(e.site), plan) for e in plan.entries)
    return plan.with_antithetic(overrides.antithetic)._replace(particles=overrides.particles)


def _repeat(new: Entry, old: Entry | None, plan: Plan) -> Entry:
    if old is None or old.term not in plan.legal_terms(new.site):
        return new
    return old._replace(plates=new.plates)
