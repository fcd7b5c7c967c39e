"""Why a site got its estimator, and why it must not have another: in words that a student understands."""

from collections.abc import Mapping

from ..distributions.unwrap import kind
from ..estimators.estimator import Findings
from ..runtime.sites import Site
from .legal import BY_NAME, ESTIMATORS


def reason(name: str, estimator: str, asked: bool, seen: Findings) -> str:
    """Why the site has this estimator. asked: whether the user named it."""
    options = seen.facts.options[name]
    if asked and options[estimator] is not None:
        return f"forced, though {options[estimator]}"
    if asked:
        better = next(word for word, why in options.items() if why is None)
        return "asked for" + ("" if better == estimator else f"; {better} is legal too and usually has less variance")
    return BY_NAME[estimator].because(name, seen, options)


def ruled_out(site: Site, options: Mapping[str, str | None]) -> tuple[str, ...]:
    """What is not legal, and why, except what nobody would think of at such a distribution."""
    causes: dict[str, list[str]] = {}
    for estimator, why in options.items():
        if why is not None and BY_NAME[estimator].comes_to_mind(site) and kind(site["fn"]) != "Delta":
            causes.setdefault(why, []).append(estimator)
    return tuple(f"{', '.join(estimators)}: {why}" for why, estimators in causes.items())


def refuse_illegal(name: str, wanted: str, seen: Findings, force: bool) -> None:
    """Raises ValueError for an estimator that is not legal at this site, unless `force` can carry it out anyway."""
    site, options = seen.sites[name], seen.facts.options[name]
    cause = options[wanted]
    if cause is None:
        return
    if force and BY_NAME[wanted].can_be_forced(site, cause):
        return
    legal = [word for word, why in options.items() if why is None]
    auxiliary = [other for other, s in seen.sites.items() if s["infer"].get("is_auxiliary")]
    if auxiliary and "Delta" in cause:
        remedy = f"override {' or '.join(map(repr, auxiliary))}"
    else:
        remedy = f"use {' or '.join(map(repr, legal))}" if legal else "see its other estimators' reasons"
    raise ValueError(f"plan: {name!r}: {wanted!r} is not legal: {cause}; {remedy}")


def refuse_unknown(overrides: Mapping[str, str], sites: Mapping[str, Site]) -> None:
    """Raises ValueError for an override of a site that is not there, or by an estimator that does not exist."""
    for name, estimator in overrides.items():
        if name not in sites:
            raise ValueError(f"plan: {name!r} is no latent site of the guide; its sites are {sorted(sites)}")
        if estimator not in BY_NAME:
            raise ValueError(
                f"plan: {name!r}: got estimator {estimator!r}, wanted one of "
                f"{', '.join(repr(e.name) for e in ESTIMATORS)}"
            )


def nothing_left(name: str, options: Mapping[str, str | None]) -> str:
    """The message for a site at which no estimator is legal."""
    reasons = "; ".join(f"{estimator}: {why}" for estimator, why in options.items() if estimator != "sampled")
    return (
        f"site {name!r}: no estimator of its gradient is unbiased. {reasons}. Change the guide's distribution to one "
        f"with a fixed support, make the model's density smooth in {name!r}, or make the rows independent"
    )
