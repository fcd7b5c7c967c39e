"""The plan: a row for each latent site, and the recipe that carries it out."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd
import torch

from ..objective.recipe import Recipe
from ..pair.costs import Terms
from ..pair.local_reparam import PER_ROW
from ..pair.summed_out import SUMMED_OUT
from .legal import ESTIMATORS, Facts
from .table import Entry, as_html, as_text, baseline_of


def recipe_of(entries: Iterable[Entry], known: Facts, antithetic: bool) -> Recipe:
    """How the sites of these entries enter the objective."""
    entries = list(entries)
    by = {estimator: [e.site for e in entries if e.estimator == estimator] for estimator in ESTIMATORS}
    kl = {e.site: known.kl[e.site] for e in entries if e.term == "analytic KL"}
    sticking = frozenset(e.site for e in entries if e.term == "sticking the landing")
    drawn = [*by["score"], *by["one-flip"]]
    terms = Terms(
        kl=kl,
        sticking=sticking | frozenset(name for name in drawn if name not in kl),  # the mean of grad log q is zero
        again=sticking & known.again,
        weights=frozenset(drawn) | frozenset(by["sampled"]),
        flips=frozenset(by["one-flip"]),
        local={e.site: e.estimator for e in entries if e.estimator in PER_ROW},
        known=frozenset(e.site for e in entries),
    )
    reach = {name: known.reads.moved_by(name, kl) for name in drawn}
    seen = frozenset(known.reads.parents)
    return Recipe(
        terms=terms,
        values={name: known.values[name] for name in by["enumerate"]},
        unmoved={name: seen.difference(known.reads.moved_by(name, kl)) for name in by["enumerate"]},
        score={name: reach[name] for name in by["score"]},
        seen=seen,
        flips={name: reach[name] for name in by["one-flip"]},
        redrawn={name: known.reads.descendants(name) for name in by["one-flip"]},
        coupled=known.coupled,
        fixed=frozenset(by["sampled"]),
        antithetic=antithetic,
    )


class Plan(NamedTuple):
    """A row for each latent site of the guide. `.frame` is the table as a DataFrame.

    reasons: {(site, estimator): why it would be taken}. asked: the sites whose estimator was not chosen but given.
    antithetic: whether particles come in pairs whose normal noise has opposite signs (see `mirror`).
    particles: draws of the guide in a gradient; variance, microseconds: of one gradient, all parameters together. All
    three are None where nothing was measured. compiled: how the steps of a run are taken (see `compiled`), once known.
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

    @property
    def frame(self) -> pd.DataFrame:
        rows = [e._replace(ruled_out="; ".join(e.ruled_out)) for e in self.entries]  # type: ignore[arg-type]
        return pd.DataFrame(rows, columns=list(Entry._fields)).set_index("site")

    @property
    def needs_score(self) -> bool:
        return bool(self.recipe.score)

    @property
    def pathwise(self) -> list[str]:
        return [e.site for e in self.entries if e.estimator in ("pathwise", *PER_ROW)]

    @property
    def values(self) -> Mapping[str, torch.Tensor]:
        return self.recipe.values

    @property
    def kl(self) -> frozenset[str]:
        """The sites whose KL from the prior is known in closed form and right."""
        summed = {e.site for e in self.entries if e.estimator in ("enumerate", "sampled")}
        return frozenset(self.facts.kl) - summed

    @property
    def term(self) -> str:
        """What most of the sites have, of those that are neither summed over nor points."""
        terms = [e.term for e in self.entries]
        return next((term for term in ("sticking the landing", "analytic KL") if term in terms), "log q")

    @property
    def terms(self) -> list[str]:
        """The terms that `with_term` can change something with."""
        if self.facts.improper:
            return ["analytic KL"]
        sticks = any("sticking the landing" in self.legal_terms(name) for name in self.pathwise)
        return ["log q", *(["analytic KL"] if self.kl else []), *(["sticking the landing"] if sticks else [])]

    def legal_terms(self, site: str, estimator: str | None = None) -> list[str]:
        """How log q of a site may enter under an estimator (its own if none is named)."""
        entry = next(e for e in self.entries if e.site == site)
        estimator = estimator or entry.estimator
        if estimator == SUMMED_OUT:
            return ["-"]
        if estimator in ("enumerate", "sampled") or entry.distribution == "Delta":
            return ["log q"]
        if site in self.facts.kl and (self.facts.improper or estimator in PER_ROW):
            return ["analytic KL"]
        sticks = ["sticking the landing"] if estimator == "pathwise" and self.facts.no_sticking is None else []
        return ["log q", *(["analytic KL"] if site in self.facts.kl else []), *sticks]

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
            baseline = baseline_of(estimator, e.distribution, self.antithetic)
            return e._replace(estimator=estimator, term=term, baseline=baseline, reason=reason)

        return self.with_entries(chosen(e) if e.site == site else e for e in self.entries)

    def with_entries(self, entries: "Iterable[Entry]") -> "Plan":
        entries = tuple(entries)
        return self._replace(entries=entries, recipe=recipe_of(entries, self.facts, self.antithetic))

    def with_antithetic(self, antithetic: bool) -> "Plan":
        """The same, its pathwise draws in pairs of opposite noise or not."""
        entries = (e._replace(baseline=baseline_of(e.estimator, e.distribution, antithetic)) for e in self.entries)
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
        return [*lines, *([f"Steps: {self.compiled}"] if self.compiled else [])]
