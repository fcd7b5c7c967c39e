"""Which gradient estimator each latent site gets, and why.

Pathwise where the guide's distribution can be differentiated through its draw (`has_rsample`), otherwise the score
function with a baseline. One table says what was chosen; an override in it is checked before it is believed.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch
from pyro import poutine

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


class Entry(NamedTuple):
    """What is done with one latent site."""

    site: str
    distribution: str
    plates: str
    estimator: str  # "pathwise" or "score"
    term: str  # how log q enters: "log q", or "STL" with its parameters held
    baseline: str
    reason: str


class Plan(NamedTuple):
    """A row for each latent site of the guide. `.frame` is the table as a DataFrame."""

    entries: tuple[Entry, ...]

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.entries, columns=list(Entry._fields)).set_index("site")

    @property
    def needs_score(self) -> bool:
        return any(e.estimator == "score" for e in self.entries)

    @property
    def term(self) -> str:
        """The form of log q at the pathwise sites: all share one, since one backward pass serves them all."""
        return next((e.term for e in self.entries if e.estimator == "pathwise"), "log q")

    def estimator(self, site: str) -> str | None:
        return next((e.estimator for e in self.entries if e.site == site), None)

    def with_term(self, term: str) -> "Plan":
        return Plan(tuple(e._replace(term=term) if e.estimator == "pathwise" else e for e in self.entries))

    def __repr__(self) -> str:
        if not self.entries:
            return "Plan: the guide has no latent sites"
        return self.frame.to_string(max_colwidth=None)

    def _repr_html_(self) -> str:
        return self.frame.to_html()


def make_plan(guide_trace: poutine.Trace, overrides: "Mapping[str, str] | Plan | None" = None) -> Plan:
    """The plan for the latent sites of a guide's trace. `overrides`: {site: "pathwise" | "score"}, or a whole Plan.

    Raises ValueError for an override that names no latent site, no estimator, or one that is not legal there.
    """
    latents = latent(guide_trace, auxiliary=True)
    if isinstance(overrides, Plan):
        overrides = {e.site: e.estimator for e in overrides.entries}
    chosen = dict(overrides or {})
    for name in chosen:
        if name not in latents:
            raise ValueError(f"plan: {name!r} is no latent site of the guide; its sites are {sorted(latents)}")
    auxiliary = [name for name, site in latents.items() if site["infer"].get("is_auxiliary")]
    entries = [_entry(name, site, chosen.get(name), auxiliary) for name, site in latents.items()]
    return Plan(tuple(entries))


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


def _entry(name: str, site: Site, wanted: str | None, auxiliary: list[str]) -> Entry:
    fn = site["fn"]
    kind = type(unwrapped(fn)).__name__
    smooth = bool(getattr(fn, "has_rsample", False))
    if wanted not in (None, "pathwise", "score"):
        raise ValueError(f"plan: {name!r}: got estimator {wanted!r}, wanted 'pathwise' or 'score'")
    if wanted == "pathwise" and not smooth:
        raise ValueError(f"plan: {name!r}: 'pathwise' is not legal, {kind} has no rsample; use 'score'")
    if wanted == "score" and kind == "Delta":
        remedy = f"override {' or '.join(map(repr, auxiliary))}" if auxiliary else "use 'pathwise'"
        raise ValueError(f"plan: {name!r}: 'score' is not legal, a Delta has no density; {remedy}")
    if wanted == "score" and smooth:
        estimator, reason = "score", "asked for; pathwise is legal too and usually has far less variance"
    elif not smooth:
        estimator, reason = (
            "score",
            f"{kind} has no rsample: a draw cannot be differentiated, its log probability can",
        )
    elif kind == "Delta" and auxiliary:
        estimator, reason = "pathwise", f"follows the guide's own draw of {', '.join(auxiliary)}"
    elif kind == "Delta":
        estimator, reason = "pathwise", "a point: its value is a parameter"
    elif kind in IMPLICIT:
        estimator, reason = "pathwise", f"{kind} has rsample, by implicit reparametrisation"
    else:
        estimator, reason = (
            "pathwise",
            f"{kind} has rsample: the draw is a smooth function of noise and parameters",
        )
    return Entry(
        site=name,
        distribution=kind,
        plates=", ".join(f"{f.name} ({f.size})" for f in site["cond_indep_stack"]) or "-",
        estimator=estimator,
        term="log q",
        baseline="moving average" if estimator == "score" else "-",
        reason=reason,
    )
