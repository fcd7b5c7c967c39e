"""The plan: a row for each latent site, and the recipe that carries it out."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch

from ..estimators.estimator import ANALYTIC_KL, LOG_Q, STICKING, Choice, Facts
from ..estimators.recipe import Recipe
from ..pair.costs import Terms
from ..pair.summed_out import SUMMED_OUT
from .legal import BY_NAME, ESTIMATORS
from .table import Entry, as_html, as_text

TERMS = (LOG_Q, ANALYTIC_KL, STICKING)


def recipe_of(entries: Iterable[Entry], facts: Facts, antithetic: bool) -> Recipe:
    """How the sites of a plan enter the objective: the terms of log q, then what each estimator adds."""
    entries = tuple(entries)
    kl = {e.site: facts.kl[e.site] for e in entries if e.term == ANALYTIC_KL}
    sticking = frozenset(e.site for e in entries if e.term == STICKING)
    terms = Terms(kl=kl, sticking=sticking, rerun=sticking & facts.again, planned=frozenset(e.site for e in entries))
    recipe = Recipe(terms=terms, seen=frozenset(facts.reads.parents), antithetic=antithetic)
    for estimator in ESTIMATORS:
        sites = [e.site for e in entries if e.estimator == estimator.name]
        recipe = estimator.enter(recipe, Choice(sites, kl, facts))
    return recipe


def baseline_of(estimator: str, distribution: str, antithetic: bool) -> str:
    """What makes the gradient of a site quieter, as a plan prints it."""
    if antithetic and BY_NAME[estimator].paired and distribution != "Delta":
        return "antithetic pairs"
    return BY_NAME[estimator].baseline


class Plan(NamedTuple):
    """Which gradient estimator each latent site of the guide gets, and why. `credo.plan` and `fit.plan` return it.

    entries: a row for each site, as tuples; `.frame` is the table.
    reasons: {(site, estimator): why it would be taken}. asked: the sites whose estimator was not chosen but given.
    antithetic: whether particles come in pairs whose normal noise has opposite signs (see `antithetic`).
    particles: draws of the guide in a gradient; variance, microseconds: of one gradient, all parameters together. All
    three are None where nothing was measured. compiled: how the steps of a run are taken (see `captures`), once known.
    place: the device of the run and why, on a machine with an accelerator where the user named none.
    updates: which sites move by natural gradients and why others do not, with optim="natural".

    >>> import credo, torch
    >>> pair = credo.load("coin_toss")
    >>> plan = credo.plan(pair.model, pair.guide, torch.tensor([1.0, 0.0, 1.0]))
    >>> plan.frame["estimator"].to_dict()
    {'p': 'pathwise'}
    """

    entries: tuple[Entry, ...]
    facts: Facts = Facts()
    recipe: Recipe = Recipe()
    reasons: Mapping[tuple[str, str], str] = {}
    asked: frozenset[str] = frozenset()
    particles: int | None = None
    antithetic: bool = False
    variance: float | None = None
    microseconds: float | None = None
    compiled: str = ""
    place: str = ""
    updates: str = ""

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each site: distribution, plates, estimator, term, baseline, reason, ruled_out, variance.

        estimator: a word such as "pathwise" or "score", which `plan={site: word}` takes.
        term: how log q(z) enters, "analytic KL", "sticking the landing" or "log q".
        ruled_out: the other estimators, and why not.
        variance: of the gradient, nats squared, where it was measured.
        """
        rows = [e._replace(ruled_out="; ".join(e.ruled_out)) for e in self.entries]  # type: ignore[arg-type]
        return pd.DataFrame(rows, columns=list(Entry._fields)).set_index("site")

    @property
    def choices(self) -> tuple[Any, ...]:
        """What two plans of a pair must have in common to have the same objective."""
        return *((e.site, e.estimator, e.term) for e in self.entries), self.antithetic

    @property
    def biased(self) -> list[str]:
        """A warning for each site whose estimator was forced though its gradient is biased."""
        found = ((e.site, e.estimator, self.facts.options.get(e.site, {}).get(e.estimator)) for e in self.entries)
        return [
            f"plan: {site!r}: {word!r} was forced, its gradient is biased: {why}" for site, word, why in found if why
        ]

    @property
    def needs_score(self) -> bool:
        """Whether a site has a baseline of its own, for which two particles are the fewest."""
        return any(BY_NAME[e.estimator].baseline != "-" for e in self.entries if e.estimator in BY_NAME)

    @property
    def pathwise(self) -> list[str]:
        """The sites whose gradient is taken along their draws."""
        return [e.site for e in self.entries if e.estimator in BY_NAME and BY_NAME[e.estimator].along_draw]

    @property
    def values(self) -> Mapping[str, torch.Tensor]:
        return self.recipe.values

    @property
    def kl(self) -> frozenset[str]:
        """The sites whose KL from the prior is known in closed form and right."""
        found = (e.site for e in self.entries if e.site in self.facts.kl)
        return frozenset(site for site in found if ANALYTIC_KL in self.legal_terms(site))

    @property
    def term(self) -> str:
        """What most of the sites have, of those that are neither summed over nor points."""
        terms = [e.term for e in self.entries]
        return next((term for term in (STICKING, ANALYTIC_KL) if term in terms), LOG_Q)

    @property
    def terms(self) -> list[str]:
        """The terms that `with_term` can change something with."""
        if self.facts.improper:
            return [ANALYTIC_KL]
        sticks = any(STICKING in self.legal_terms(name) for name in self.pathwise)
        return [LOG_Q, *([ANALYTIC_KL] if self.kl else []), *([STICKING] if sticks else [])]

    def legal_terms(self, site: str, estimator: str | None = None) -> list[str]:
        """How log q of a site may enter under an estimator (its own if none is named)."""
        entry = next(e for e in self.entries if e.site == site)
        estimator = estimator or entry.estimator
        if estimator == SUMMED_OUT:
            return ["-"]
        if entry.distribution == "Delta":
            return [LOG_Q]
        terms = BY_NAME[estimator].terms
        if self.facts.improper and site in self.facts.kl and ANALYTIC_KL in terms:
            return [ANALYTIC_KL]
        known = {LOG_Q: True, ANALYTIC_KL: site in self.facts.kl, STICKING: self.facts.no_sticking is None}
        return [term for term in terms if known[term]]

    def estimator(self, site: str) -> str | None:
        """The estimator of a site, such as "pathwise"; None for a site that the guide does not have."""
        return next((e.estimator for e in self.entries if e.site == site), None)

    def with_term(self, term: str) -> "Plan":
        """The same estimators, with this term wherever it is legal, and plain log q elsewhere.

        Raises ValueError for a word that is no term.
        """
        if term not in TERMS:
            raise ValueError(f"term: got {term!r}, wanted one of {', '.join(map(repr, TERMS))}")
        return self.with_entries(
            [
                e._replace(term=term if term in self.legal_terms(e.site) else self.legal_terms(e.site)[0])
                for e in self.entries
            ]
        )

    def with_choice(self, site: str, estimator: str, term: str) -> "Plan":
        """The same plan with another choice at one site."""
        return self.with_choices([site], estimator, term)

    def with_choices(self, sites: Iterable[str], estimator: str, term: str) -> "Plan":
        """The same plan with another choice at these sites."""
        sites = frozenset(sites)

        def chosen(e: Entry) -> Entry:
            baseline = baseline_of(estimator, e.distribution, self.antithetic)
            reason = self.reasons.get((e.site, estimator), "")
            return e._replace(estimator=estimator, term=term, baseline=baseline, reason=reason)

        return self.with_entries(chosen(e) if e.site in sites else e for e in self.entries)

    def with_entries(self, entries: Iterable[Entry]) -> "Plan":
        entries = tuple(entries)
        return self._replace(entries=entries, recipe=recipe_of(entries, self.facts, self.antithetic))

    def with_antithetic(self, antithetic: bool) -> "Plan":
        """The same, its pathwise draws in pairs of opposite noise or not."""
        entries = (
            e._replace(baseline=baseline_of(e.estimator, e.distribution, antithetic)) if e.estimator in BY_NAME else e
            for e in self.entries
        )
        return self._replace(antithetic=antithetic).with_entries(entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and (self.entries, self.antithetic) == (other.entries, other.antithetic)

    def __hash__(self) -> int:
        return hash(self.entries)

    def __repr__(self) -> str:
        return as_text(self.entries, self._below())

    def _repr_html_(self) -> str:
        return as_html(self.entries, self._below())

    def _below(self) -> list[str]:
        """The lines below the table: the whole gradient, and how steps are taken."""
        lines = []
        if self.variance is not None:
            draws = f", {self.particles} particles" if self.particles else ""
            lines.append(
                f"One gradient: variance {self.variance:.3g} over all parameters, {self.microseconds:,.0f} "
                f"microseconds by counting{draws}"
            )
        lines += [f"Updates: {self.updates}"] if self.updates else []
        lines += [f"Steps: {self.compiled}"] if self.compiled else []
        return [*lines, *([f"Device: {self.place}"] if self.place else [])]


# Of a fit that took no steps of SVI: no latent has a gradient estimator.
NO_STEPS = Plan((), compiled="none, the posterior was found without SVI (fit.method says how, fit.why says why)")
