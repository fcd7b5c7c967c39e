"""Compares closed forms of KL(q || p) with draws, where the parameters of a run start and a little off them.

A KL that somebody registered may be wrong, be right at some parameters only, or be that of other distributions.
"""

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from typing import Any, NamedTuple

from pyro import poutine

from ..distributions.agreement import Agreement, agreement
from ..distributions.divergence import pushforward
from ..distributions.unwrap import is_masked
from ..pair.costs import summed_model
from ..pair.pair import Pair
from ..runtime.generators import generators_kept, noise
from ..runtime.probes import at_a_draw, look_near, probing
from ..runtime.sites import Site, latent

MOVED = 0.3  # sd of the move of the parameters: a KL, or a map of the guide's, may be right where they start alone
ALIKE = 4  # of the sites with the same kinds of distributions and the same shape, how many are compared with draws
NUMBERS = 2**16  # drawn for all sites together
ERRORS = 6.0  # standard errors
SLACK, EACH = 0.01, 1e-3  # of the KL, and nats for each number: what a KL may be off


class Place(NamedTuple):
    """The latent sites of a guide and of a model, from traces of both at some parameters."""

    guide: dict[str, Site]
    model: dict[str, Site]

    def law(self, name: str, target: str) -> Any:
        """The distribution of the latent `target` that the guide's site `name` gives it."""
        q = self.guide[name]["fn"]
        return q if name == target else pushforward(q, self.model[target]["fn"])


def two_places(pair: Pair, q: poutine.Trace, p: poutine.Trace) -> list[Place]:
    """The pair at its parameters, of which traces are given, and at parameters nearby, unless it fails there.

    q: a trace of the guide; p: a trace of the model replayed from it.
    """
    found = [Place(latent(q, auxiliary=True), latent(p))]

    def look() -> Place:
        there = poutine.trace(pair.guide).get_trace(*pair.data)
        prior = poutine.trace(poutine.replay(summed_model(pair), trace=there)).get_trace(*pair.data)
        return Place(_kept(latent(there, auxiliary=True)), _kept(latent(prior)))

    with generators_kept(), noise(0), probing(tuple(pair)):
        with suppress(Exception):  # the pair fails at all parameters nearby
            found.append(look_near(lambda: at_a_draw(lambda _: look()), MOVED))
    return found


def _kept(sites: dict[str, Site]) -> dict[str, Site]:
    """The sites with copies of their distributions and values, which may be the parameters themselves."""
    return {name: {**site, "fn": deepcopy(site["fn"]), "value": site["value"].clone()} for name, site in sites.items()}


def wrong_kl(kl: Mapping[str, str], at: list[Place]) -> dict[str, str]:
    """{site: how its closed form differs from the mean of log q - log p}, at the parameters or at others.

    Of many sites with the same kinds of distributions a few are compared: a closed form is a function of their kinds.
    """
    alike: dict[tuple[Any, ...], list[str]] = {}
    for name, target in kl.items():
        q, p = at[0].guide[name]["fn"], at[0].model[target]["fn"]
        apart = name if is_masked(q, p) else ""  # masks are values
        alike.setdefault((_kinds(q), _kinds(p), q.batch_shape, q.event_shape, name == target, apart), []).append(name)
    wrong: dict[str, str] = {}
    with generators_kept(), noise(0):
        for names in alike.values():
            for name in names[:ALIKE]:
                if cause := _disagreement(name, kl[name], at, NUMBERS // len(alike)):
                    wrong |= dict.fromkeys(names, cause)
                    break
    return wrong


def _disagreement(name: str, target: str, at: list[Place], numbers: int) -> str | None:
    """How the KL of a site differs from its definition at one of the places, in words; None if it does not.

    An improper prior has no scale, and KLs from it are published as approximations, so that theirs is taken as given.
    """
    if is_improper(at[0].model[target]["fn"]):
        return None
    for place in at:
        found = _compared(name, target, place, numbers)
        if found is not None and _excess(found):
            again = _compared(name, target, place, 4 * numbers)
            if again is not None and (cause := _excess(again)):
                return cause
    return None


def _compared(name: str, target: str, place: Place, numbers: int) -> Agreement | None:
    """The KL of a site and its definition at a place; None where there is neither, or no value for each row."""
    if name not in place.guide or target not in place.model:
        return None
    try:
        return agreement(place.law(name, target), place.model[target]["fn"], numbers)
    except NotImplementedError:  # no transform to a support that is another there
        return None


def _excess(found: Agreement) -> str | None:
    """By how much the two sides differ, in words; None within the errors."""
    claimed, mean, error = (t.reshape(-1).double() for t in (found.claimed, found.found, found.error))
    if not claimed.isfinite().all():
        return None  # parameters that are impossible there
    slack = SLACK * claimed.abs() + EACH * found.numbers
    off = (claimed - mean).abs() / (ERRORS * error + slack)
    i = int(off.argmax())
    if off[i] <= 1:
        return None
    return (
        f"its KL in closed form disagrees with draws of log q - log p: {claimed[i].item():.4g} vs "
        f"{mean[i].item():.4g} ± {error[i].item():.2g} nats"
    )


def is_improper(fn: Any) -> bool:
    """Whether a prior cannot be drawn from."""
    try:
        fn.sample()
    except NotImplementedError:
        return True
    return False


def _kinds(fn: Any) -> tuple[str, ...]:
    """The class names of a distribution and of those inside it."""
    inside = getattr(fn, "base_dist", None)
    return (type(fn).__name__, *(() if inside is None else _kinds(inside)))
