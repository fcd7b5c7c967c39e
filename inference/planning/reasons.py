"""Why a site got its estimator, and why it may not have another: in words that a student understands."""

import warnings
from collections.abc import Mapping

from ..distributions.unwrap import kind
from ..pair.local_reparam import PER_ROW
from ..runtime.sites import Site, has_rsample
from .legal import ESTIMATORS, Facts

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


def reason(name: str, site: Site, estimator: str, asked: bool, known: Facts) -> str:
    """In words that a student understands."""
    word, options = kind(site["fn"]), known.options[name]
    if asked and options[estimator] is not None:
        return f"forced, though {options[estimator]}"
    if asked:
        better = next(e for e in ESTIMATORS if options[e] is None)
        return "asked for" + ("" if better == estimator else f"; {better} is legal too and usually has less variance")
    if estimator == "sampled":
        return f"this {word} has no parameters: it is drawn, and no gradient is due"
    if estimator == "enumerate":
        return f"{len(known.values[name])} values, each tried and weighted by its probability"
    if estimator == "local":
        return "a weight of one layer: the layer's outputs are drawn for each row, so rows do not share its noise"
    if estimator == "flipout":
        return "a weight of one layer: its noise gets random signs for each row, so that rows do not share it"
    if estimator == "one-flip":
        return f"each unit of this {word} is tried at its other values, the others as drawn: {options['enumerate']}"
    if estimator == "score" and has_rsample(site):
        return f"{word} has rsample, but {options['pathwise']}"
    if estimator == "score":
        return (
            f"{word} has no rsample: a draw cannot be differentiated, its log probability can; not summed over: "
            f"{options['enumerate']}"
        )
    if word == "Delta" and known.reads.ancestors(name):
        return f"follows the guide's own draw of {', '.join(sorted(known.reads.ancestors(name)))}"
    if word == "Delta":
        return "a point: its value is a parameter"
    if word in IMPLICIT:
        return f"{word} has rsample, by implicit reparametrisation"
    return f"{word} has rsample: the draw is a smooth function of noise and parameters"


def ruled_out(site: Site, options: Mapping[str, str | None]) -> tuple[str, ...]:
    """What is not legal, and why, but for what nobody would think of at such a distribution."""
    word = kind(site["fn"])
    idle = {"sampled"} | ({"enumerate", "one-flip"} if has_rsample(site) else set())
    idle |= set() if word == "Normal" else set(PER_ROW)
    causes: dict[str, list[str]] = {}
    for estimator, why in options.items():
        if why is not None and estimator not in idle and word != "Delta":
            causes.setdefault(why, []).append(estimator)
    return tuple(f"{', '.join(estimators)}: {why}" for why, estimators in causes.items())


def refuse(name: str, wanted: str, site: Site, known: Facts, auxiliary: list[str], force: bool) -> None:
    """Raises ValueError for an estimator that is not legal at this site. force: warns, if it can be carried out."""
    options = known.options[name]
    cause = options[wanted]
    if cause is None:
        return
    if force and ((wanted == "pathwise" and has_rsample(site)) or (wanted == "score" and "no density" not in cause)):
        warnings.warn(f"plan: {name!r}: {wanted!r} was forced, its gradient is biased: {cause}", stacklevel=2)
        return
    legal = [e for e in ESTIMATORS if options[e] is None]
    if auxiliary and "Delta" in cause:
        remedy = f"override {' or '.join(map(repr, auxiliary))}"
    else:
        remedy = f"use {' or '.join(map(repr, legal))}" if legal else "see its other estimators' reasons"
    raise ValueError(f"plan: {name!r}: {wanted!r} is not legal: {cause}; {remedy}")


def nothing_left(name: str, options: Mapping[str, str | None]) -> str:
    reasons = "; ".join(f"{estimator}: {why}" for estimator, why in options.items() if estimator != "sampled")
    return (
        f"site {name!r}: no estimator of its gradient is unbiased. {reasons}. Change the guide's distribution to one "
        f"with a fixed support, make the model's density smooth in {name!r}, or make the rows independent"
    )
