"""Pathwise gradients (reparametrisation): the gradient of the integrand along the draw, z = z(noise, parameters).

Legal where the log density does not jump along the draw (see `jumps`).

Source: Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014; implicit: Figurnov, Mohamed and Mnih 2018.
"""

from collections.abc import Mapping

from pyro import poutine

from ..distributions.unwrap import kind
from ..pair.pair import Pair
from ..runtime.sites import drawn_sites, has_rsample, latent
from .estimator import ANALYTIC_KL, LOG_Q, STICKING, Estimator, Findings
from .jumps import rough_sites

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


def why_not(seen: Findings) -> dict[str, str | None]:
    """{site: None if its draw may be differentiated, else why not}."""
    return {
        name: seen.jumps.get(name) if has_rsample(site) else f"{kind(site['fn'])} has no rsample"
        for name, site in seen.sites.items()
    }


def because(name: str, seen: Findings, options: Mapping[str, str | None]) -> str:
    word = kind(seen.sites[name]["fn"])
    if word == "Delta" and (drawn_before := seen.facts.reads.ancestors(name)):
        return f"follows the guide's own draw of {', '.join(sorted(drawn_before))}"
    if word == "Delta":
        return "a point: its value is a parameter"
    if word in IMPLICIT:
        return f"{word} has rsample, by implicit reparametrisation"
    return f"{word} has rsample: the draw is a smooth function of noise and parameters"


def not_pathwise(
    pair: Pair, guide: poutine.Trace, fixed: list[str], kl: Mapping[str, str], vectorised: bool
) -> dict[str, str]:
    """{site: why its draw must not be differentiated}. guide: a trace. fixed: left out. kl: as for `rough_sites`."""
    every = {name: site for name, site in drawn_sites(guide).items() if kind(site["fn"]) != "Delta"}
    asked = latent(guide, auxiliary=True).keys() - set(fixed)
    sites = {name: site for name, site in every.items() if name in asked and has_rsample(site)}
    held = {name: site["value"] for name, site in every.items() if name not in sites}
    return rough_sites(pair, sites, held, kl, vectorised)


ESTIMATOR = Estimator(
    "pathwise",
    (LOG_Q, ANALYTIC_KL, STICKING),
    why_not,
    because,
    paired=True,
    along_draw=True,
    can_be_forced=lambda site, why: has_rsample(site),
)
