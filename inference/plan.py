"""Which gradient estimator each latent site gets, and why.

    sampled     its distribution has no parameters: a draw, and no gradient is due
    pathwise    the guide's distribution can be differentiated through its draw (`has_rsample`)
    enumerate   finite: summed over, no draw
    score       what is left: the score function with a baseline

One table says what was chosen; an override in it is checked before it is believed.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch
from pyro import poutine

from .costs import Pair, kl_is_known
from .enumeration import finite_sites
from .jumps import not_pathwise
from .marginal import SUMMED_OUT, plan_rows
from .score import coupled_plates
from .sites import Site, latent, unwrapped

IMPLICIT = {
    "Beta",
    "Dirichlet",
    "Gamma",
    "InverseGamma",
    "Chi2",
    "StudentT",
    "VonMises",
    "MultivariateStudentT",
}


ESTIMATORS = ("pathwise", "enumerate", "score", "sampled")


class Entry(NamedTuple):
    """What is done with one latent site."""

    site: str
    distribution: str
    plates: str
    estimator: str  # one of ESTIMATORS
    term: str  # how log q enters: "KL" with log p in closed form, "STL" with its parameters held, or "log q"
    baseline: str
    reason: str


class Plan(NamedTuple):
    """A row for each latent site of the guide. `.frame` is the table as a DataFrame.

    values: the support of each enumerated site. coupled: {site with the score function: the plates in which its rows
    look at each other}. kl: the sites whose KL from the prior is known in closed form; needed:
    whether one of them has an improper prior, whose log density no draw may be differentiated through.
    """

    entries: tuple[Entry, ...]
    values: Mapping[str, torch.Tensor] = {}
    coupled: Mapping[str, frozenset[str]] = {}
    kl: frozenset[str] = frozenset()
    needed: bool = False

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.entries, columns=list(Entry._fields)).set_index("site")

    @property
    def needs_score(self) -> bool:
        return any(e.estimator == "score" for e in self.entries)

    @property
    def pathwise(self) -> list[str]:
        return [e.site for e in self.entries if e.estimator == "pathwise"]

    @property
    def term(self) -> str:
        """One for all pathwise sites that allow it ("KL", "STL" or "log q"): one backward pass serves them all."""
        terms = {e.term for e in self.entries}
        return next((term for term in ("STL", "KL") if term in terms), "log q")

    @property
    def terms(self) -> list[str]:
        """The terms this plan may be carried out with."""
        if not any(e.estimator == "pathwise" for e in self.entries):
            return ["log q"]
        if self.needed:
            return ["KL"]
        return ["log q", *(["KL"] if self.kl else []), *([] if self.values or self.needs_score else ["STL"])]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.entries == other.entries and self.kl == other.kl

    def __hash__(self) -> int:
        return hash((self.entries, self.kl))

    def estimator(self, site: str) -> str | None:
        return next((e.estimator for e in self.entries if e.site == site), None)

    def with_term(self, term: str) -> "Plan":
        def one(e: Entry) -> str:
            return term if e.estimator == "pathwise" and (term != "KL" or e.site in self.kl) else "log q"

        return self._replace(entries=tuple(e if e.term == "-" else e._replace(term=one(e)) for e in self.entries))

    def __repr__(self) -> str:
        if not self.entries:
            return "Plan: the guide has no latent sites"
        return self.frame.to_string(max_colwidth=None)

    def _repr_html_(self) -> str:
        return self.frame.to_html()


EMPTY = Plan(())  # draws everything and takes log q as it is


def make_plan(
    pair: Pair, guide: poutine.Trace, vectorised: bool, overrides: "Mapping[str, str] | Plan | None" = None
) -> Plan:
    """The plan for the latent sites of the guide, of which a trace is given. vectorised: whether `vmap` accepts it.

    overrides: {site: estimator}, or a whole Plan. Analytic KL is the term to start with where it is known.
    Raises ValueError for an override that names no latent site, no estimator, or one that is not legal there, and for
    discrete sites whose rows are coupled: no estimator here is unbiased for them.
    """
    latents = latent(guide, auxiliary=True)
    repeated = {}
    if isinstance(overrides, Plan):
        repeated = {e.site: e for e in overrides.entries}
        overrides = {e.site: e.estimator for e in overrides.entries if e.estimator != SUMMED_OUT}
    chosen = dict(overrides or {})
    for name in chosen:
        if name not in latents:
            raise ValueError(f"plan: {name!r} is no latent site of the guide; its sites are {sorted(latents)}")
    auxiliary = [name for name, site in latents.items() if site["infer"].get("is_auxiliary")]
    fixed = [name for name, site in latents.items() if not _trained(site)]
    rough = [name for name, site in latents.items() if not _smooth(site) and name not in fixed]
    values, why = finite_sites(pair, guide, rough, vectorised)
    values = {name: v for name, v in values.items() if chosen.get(name) != "score"}
    known, improper = kl_is_known(pair, values)
    why |= not_pathwise(pair, guide, fixed, known if improper else frozenset(), vectorised)
    entries = [_entry(name, site, chosen.get(name), auxiliary, fixed, values, why) for name, site in latents.items()]
    if values and any(e.estimator == "score" for e in entries):  # one objective for both is still to be written
        blocking = next(e.site for e in entries if e.estimator == "score")
        why |= dict.fromkeys(values, f"{blocking!r} needs the score function, which takes all discrete sites with it")
        entries = [_entry(name, site, chosen.get(name), auxiliary, fixed, {}, why) for name, site in latents.items()]
        values = {}
    entries = [repeated[e.site]._replace(plates=e.plates) if e.site in repeated else e for e in entries]
    coupled = coupled_plates(pair, [e.site for e in entries if e.estimator == "score"])
    known -= coupled.keys()
    entries += [Entry(**row) for row in plan_rows(pair.model, guide, pair.data, pair.summed)]
    return Plan(tuple(entries), values, coupled, known, improper).with_term("KL")


def plan(
    model: Callable[..., Any],
    guide: Callable[..., Any] | str | None,
    *data: Any,
    plan: "Mapping[str, str] | Plan | None" = None,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> Plan:
    """The table of site, distribution, plates, estimator, term, baseline and reason, without training.

    model, guide, data: as for `credo.fit`. plan: overrides, e.g. {"z": "score"}.
    Raises ValueError as `credo.fit` does: for bad data, and for a guide that does not match its model.
    """
    from .svi import SVI

    runner = SVI(model, guide, plan=plan, seed=seed, device=device, progress=False)
    return runner.prepare(*data)


def _smooth(site: Site) -> bool:
    return bool(getattr(site["fn"], "has_rsample", False))


def _trained(site: Site) -> bool:
    """Whether the site's distribution depends on parameters, its own or those of a draw it was given."""
    value = site["value"]
    held = value.detach() if isinstance(value, torch.Tensor) else value
    return bool(site["fn"].log_prob(held).requires_grad)


def _entry(
    name: str,
    site: Site,
    wanted: str | None,
    auxiliary: list[str],
    fixed: Iterable[str],
    values: Mapping[str, torch.Tensor],
    why: Mapping[str, str],
) -> Entry:
    kind = type(unwrapped(site["fn"])).__name__
    if wanted is not None:
        _refuse(name, kind, wanted, _smooth(site), auxiliary, fixed, values, why)
    if wanted == "score":
        legal = _smooth(site) and name not in why
        smooth = "; pathwise is legal too and usually has far less variance" if legal else ""
        estimator, reason = "score", f"asked for{smooth}"
    elif name in fixed and not _smooth(site):
        estimator, reason = "sampled", f"this {kind} has no parameters: it is drawn, and no gradient is due"
    elif name in values:
        estimator, reason = "enumerate", f"{len(values[name])} values, each tried and weighted by its probability"
    elif _smooth(site) and name in why and wanted != "pathwise":
        estimator, reason = "score", f"{kind} has rsample, but {why[name]}"
    elif not _smooth(site):
        cause = f"; not summed over: {why[name]}" if name in why else ""
        estimator = "score"
        reason = f"{kind} has no rsample: a draw cannot be differentiated, its log probability can{cause}"
    elif kind == "Delta" and auxiliary:
        estimator, reason = "pathwise", f"follows the guide's own draw of {', '.join(auxiliary)}"
    elif kind == "Delta":
        estimator, reason = "pathwise", "a point: its value is a parameter"
    elif kind in IMPLICIT:
        estimator, reason = "pathwise", f"{kind} has rsample, by implicit reparametrisation"
    else:
        estimator, reason = "pathwise", f"{kind} has rsample: the draw is a smooth function of noise and parameters"
    return Entry(
        site=name,
        distribution=kind,
        plates=", ".join(f"{f.name} ({f.size})" for f in site["cond_indep_stack"]) or "-",
        estimator=estimator,
        term="log q",
        baseline="leave one out" if estimator == "score" else "-",
        reason=reason,
    )


def _refuse(
    name: str,
    kind: str,
    wanted: str,
    smooth: bool,
    auxiliary: list[str],
    fixed: Iterable[str],
    values: Mapping[str, torch.Tensor],
    why: Mapping[str, str],
) -> None:
    """Raises ValueError for an estimator that does not exist or is not legal at this site."""
    if wanted not in ESTIMATORS:
        raise ValueError(f"plan: {name!r}: got estimator {wanted!r}, wanted one of {', '.join(map(repr, ESTIMATORS))}")
    if wanted == "pathwise" and not smooth:
        raise ValueError(f"plan: {name!r}: 'pathwise' is not legal, {kind} has no rsample; use 'score'")
    if wanted == "pathwise" and name in why:
        raise ValueError(f"plan: {name!r}: 'pathwise' is not legal: {why[name]}; use 'score'")
    if wanted == "score" and kind == "Delta":
        remedy = f"override {' or '.join(map(repr, auxiliary))}" if auxiliary else "use 'pathwise'"
        raise ValueError(f"plan: {name!r}: 'score' is not legal, a Delta has no density; {remedy}")
    if wanted == "enumerate" and name not in values:
        cause = why.get(name, f"{kind} has no finite support with parameters")
        raise ValueError(f"plan: {name!r}: 'enumerate' is not legal: {cause}; use 'pathwise' or 'score'")
    if wanted == "sampled" and name not in fixed:
        raise ValueError(
            f"plan: {name!r}: 'sampled' is not legal, {kind} depends on parameters and would lose its gradient"
        )
