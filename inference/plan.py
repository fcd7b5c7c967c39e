"""Which gradient estimator each latent site gets, and why.

One table says what was chosen among what is legal (see `legal`); an override in it is checked before it is believed.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch
from pyro import poutine

from .costs import Pair, Terms
from .legal import ESTIMATORS, Facts, facts
from .local import HOW
from .marginal import SUMMED_OUT, plan_rows
from .means import Means, carried_out
from .reasons import nothing_left, reason, refuse, ruled_out
from .sites import kind, latent, shown_plates
from .table import as_html, as_text

PAIRED = "antithetic pairs"


class Entry(NamedTuple):
    """What is done with one latent site."""

    site: str
    distribution: str
    plates: str
    estimator: str  # one of ESTIMATORS
    term: str  # how log q enters: "KL" with log p in closed form, "STL" with its parameters held, or "log q"
    baseline: str
    reason: str
    ruled_out: tuple[str, ...] = ()  # what else there is, and why it is not legal or was slower
    variance: float | None = None  # of the gradient, summed over the parameters of this site, where it was measured


class Plan(NamedTuple):
    """A row for each latent site of the guide. `.frame` is the table as a DataFrame.

    reasons: {(site, estimator): why it would be taken}. asked: the sites whose estimator was not chosen but given.
    antithetic: whether particles come in pairs whose normal noise has opposite signs (see `mirror`).
    particles: draws of the guide in a gradient; variance, microseconds: of one gradient, all parameters together. All
    three are None where nothing was measured. compiled: how the steps of a run are taken (see `compiled`), once known.
    """

    entries: tuple[Entry, ...]
    facts: Facts = Facts()
    means: Means = Means()
    reasons: Mapping[tuple[str, str], str] = {}
    asked: frozenset[str] = frozenset()
    particles: int | None = None
    antithetic: bool = False
    variance: float | None = None
    microseconds: float | None = None
    compiled: str = ""

    @property
    def frame(self) -> pd.DataFrame:
        rows = [e._replace(ruled_out="; ".join(e.ruled_out)) for e in self.entries]  # type: ignore[arg-type]
        return pd.DataFrame(rows, columns=list(Entry._fields)).set_index("site")

    @property
    def needs_score(self) -> bool:
        return bool(self.means.score)

    @property
    def pathwise(self) -> list[str]:
        return [e.site for e in self.entries if e.estimator in ("pathwise", *HOW)]

    @property
    def values(self) -> Mapping[str, torch.Tensor]:
        return self.means.values

    @property
    def kl(self) -> frozenset[str]:
        """The sites whose KL from the prior is known in closed form and right."""
        summed = {e.site for e in self.entries if e.estimator in ("enumerate", "sampled")}
        return frozenset(self.facts.kl) - summed

    @property
    def term(self) -> str:
        """What most of the sites have, of those that are neither summed over nor points."""
        terms = [e.term for e in self.entries]
        return next((term for term in ("STL", "KL") if term in terms), "log q")

    @property
    def terms(self) -> list[str]:
        """The terms that `with_term` can change something with."""
        if self.facts.improper:
            return ["KL"]
        sticks = any("STL" in self.legal_terms(name) for name in self.pathwise)
        return ["log q", *(["KL"] if self.kl else []), *(["STL"] if sticks else [])]

    def legal_terms(self, site: str, estimator: str | None = None) -> list[str]:
        """How log q of a site may enter under an estimator (its own if none is named)."""
        entry = next(e for e in self.entries if e.site == site)
        estimator = estimator or entry.estimator
        if estimator == SUMMED_OUT:
            return ["-"]
        if estimator in ("enumerate", "sampled") or entry.distribution == "Delta":
            return ["log q"]
        if site in self.facts.kl and (self.facts.improper or estimator in HOW):
            return ["KL"]
        sticks = ["STL"] if estimator == "pathwise" and self.facts.no_sticking is None else []
        return ["log q", *(["KL"] if site in self.facts.kl else []), *sticks]

    def estimator(self, site: str) -> str | None:
        return next((e.estimator for e in self.entries if e.site == site), None)

    def with_term(self, term: str) -> "Plan":
        """The same estimators, with this term wherever it is legal, and plain log q elsewhere."""
        return self.with_entries(
            [
                e._replace(term=term if term in self.legal_terms(e.site) else self.legal_terms(e.site)[0])
                for e in self.entries
            ]
        )

    def with_choice(self, site: str, estimator: str, term: str) -> "Plan":
        """The same but for one site."""
        reason = self.reasons.get((site, estimator), "")

        def chosen(e: Entry) -> Entry:
            baseline = _baseline(estimator, e.distribution, self.antithetic)
            return e._replace(estimator=estimator, term=term, baseline=baseline, reason=reason)

        return self.with_entries(chosen(e) if e.site == site else e for e in self.entries)

    def with_entries(self, entries: "Iterable[Entry]") -> "Plan":
        entries = tuple(entries)
        return self._replace(entries=entries, means=carried_out(entries, self.facts))

    def with_antithetic(self, antithetic: bool) -> "Plan":
        """The same, its pathwise draws in pairs of opposite noise or not."""
        entries = (e._replace(baseline=_baseline(e.estimator, e.distribution, antithetic)) for e in self.entries)
        return self.with_entries(entries)._replace(antithetic=antithetic)

    def valued(self) -> "Plan":
        """The same values in expectation, nothing done for gradients."""
        return self._replace(
            means=Means(terms=Terms(kl=self.means.terms.kl, local=self.means.terms.local), values=self.means.values)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and (self.entries, self.antithetic) == (other.entries, other.antithetic)

    def __hash__(self) -> int:
        return hash(self.entries)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)


EMPTY = Plan(())  # draws everything and takes log q as it is


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
                baseline=_baseline(estimator, kind(site["fn"]), False),
                reason=reasons[name, estimator],
                ruled_out=ruled_out(site, options),
            )
        )
    entries += [Entry(**row) for row in plan_rows(pair.model, guide, pair.data, pair.summed)]
    plan = Plan(tuple(entries), known, reasons=reasons, asked=frozenset(wanted)).with_term("KL")
    if not isinstance(overrides, Plan):
        return plan
    plan = plan.with_entries(_repeat(e, repeated.get(e.site), plan) for e in plan.entries)
    return plan._replace(particles=overrides.particles, antithetic=overrides.antithetic)


def plan(
    model: Callable[..., Any],
    guide: Callable[..., Any] | str | None,
    *data: Any,
    plan: "Mapping[str, str] | Plan | str | None" = None,
    force: bool = False,
    particles: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> Plan:
    """The table of site, distribution, plates, estimator, term, baseline, reason, what was ruled out, and the variance
    of the gradient, without training: legal plans compete at the parameters that a run would start from (see `race`).

    model, guide, data: as for `credo.fit`. plan: overrides, e.g. {"z": "score"}; "fast" measures nothing.
    force: as for `credo.fit`.
    Raises ValueError as `credo.fit` does: for bad data, and for a guide that does not match its model.
    """
    from .svi import SVI

    runner = SVI(model, guide, plan=plan, force=force, particles=particles, seed=seed, device=device, progress=False)
    return runner.race(*data)


def _repeat(new: Entry, old: Entry | None, plan: Plan) -> Entry:
    if old is None or old.term not in plan.legal_terms(new.site):
        return new
    return old._replace(plates=new.plates)


def _baseline(estimator: str, distribution: str, antithetic: bool) -> str:
    if estimator == "score":
        return "leave one out"
    return PAIRED if antithetic and estimator == "pathwise" and distribution != "Delta" else "-"
