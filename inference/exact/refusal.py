"""Which site has no closed form: the one whose family fails nearest to the posterior, by how much, and how far out."""

from collections.abc import Callable

import torch

from ..runtime.sites import quoted
from .belief import Fitted
from .coordinates import REAL, Coordinates, Values
from .derivatives import LogDensity
from .families import families_on
from .log_joint import LogJoint, culprit, scored
from .no_closed_form import NoClosedForm
from .points import wide
from .solve import in_coordinates, replaced, scattered, varied

SDS = {"within 1 sd": 1.0, "within 3 sds": 3.0, "within 10 sds": 10.0}


LOOKS = 6


ROUNDING = 2.0**20 * torch.finfo(torch.float64).eps  # relative; to blame one of several sites, and not to prove


FLOOR = 1e-7  # nats


Points = Callable[[Fitted], list[torch.Tensor]]


def refusal(
    f: LogJoint,
    where: Coordinates,
    fits: list[Fitted],
    starts: list[torch.Tensor],
    there: Values | None = None,
    off: float = 0.0,
) -> NoClosedForm:
    """The error. there: the values at which the proof failed, if it came so far, and by how many nats."""
    density = in_coordinates(f, where)
    x = starts[0].clone()
    for fit in fits:
        if fit.belief is not None:
            x = _moved(where, fit, x, 1.0)
    varies = {
        words: [_varies(density, fit, [x, *at(fit)]) for fit in fits]
        for words, at in _looks(where, starts, fits, x, there)
    }
    for words, nats in varies.items():
        for i, fit in enumerate(fits):
            if nats[i] > 0:
                worst = max(some[i] for some in varies.values())
                more = f", and by {worst:.3g} nats elsewhere" if worst > 2 * nats[i] else ""
                at = words if len(fit.sites) == 1 else words.replace("its centre", "their centre")
                return NoClosedForm(
                    f"{_sentence(where, fit)}: log p(data, z) - log q(z) varies by {nats[i]:.3g} nats {at}{more}"
                )
    for point in [there, *(where.values(p) for p in [*starts, *(scattered(where, starts, 1.0) for _ in range(LOOKS))])]:
        if point is not None and not f(point).total.isfinite():
            return _impossible(f, point)
    for fit in fits:
        if fit.belief is None:
            return NoClosedForm(
                f"{quoted(fit.sites)}: the posterior is improper, it would be {fit.family} with {fit.shown}; give "
                f"{'it' if len(fit.sites) == 1 else 'them'} a proper prior"
            )
    sites = [name for fit in fits for name in fit.sites]
    families = ", ".join(sorted({fit.family for fit in fits}))
    return NoClosedForm(
        f"{quoted(sites)}: no closed form; nearest is {families}: log p(data, z) - log q(z) varies by {off:.3g} nats, "
        f"more than rounding explains"
    )


def _looks(
    where: Coordinates, starts: list[torch.Tensor], fits: list[Fitted], x: torch.Tensor, there: Values | None
) -> list[tuple[str, Points]]:
    """Points that differ from x in the sites of a fit alone, the nearest first, and where that is in words."""

    def at(width: float) -> Points:
        return lambda fit: [_moved(where, fit, x, width) for _ in range(LOOKS)] if fit.belief else []

    looks = [(f"{words} of its centre", at(width)) for words, width in SDS.items()]
    if there is not None:
        point = where.flat(there)
        shown = ", ".join(f"{name!r} = {value.flatten()[0].item():.4g}" for name, value in [*there.items()][:3])
        looks.append((f"between its centre and {shown}", lambda fit: [replaced(where, fit.sites, x, point)]))
    looks.append(("over the prior", lambda fit: [varied(where, starts, fit.sites, x) for _ in range(LOOKS)]))
    far = wide(where, fits, starts) if all(fit.belief for fit in fits) else [scattered(where, starts, 10.0)] * 2
    looks.append(("far beyond the prior", lambda fit: [replaced(where, fit.sites, x, other) for other in far]))
    return looks


def _impossible(f: LogJoint, z: Values) -> NoClosedForm:
    where = ", ".join(f"{name!r} is {value.flatten()[0].item():.4g}" for name, value in [*z.items()][:3])
    return NoClosedForm(
        f"{culprit(scored(f.trace({**f.held, **z})))} where {where}, inside the supports: what is possible depends on "
        f"latents, or a density is out of range, and neither is so in a family of closed forms"
    )


def _sentence(where: Coordinates, fit: Fitted) -> str:
    together = "" if len(fit.sites) == 1 else ", which depend on each other"
    v = where.variables[fit.sites[0]]
    others = [family.name for family in families_on(v.support) if len(fit.sites) == 1 and v.support != REAL]
    tried = f" (tried: {', '.join(others)})" if len(others) > 1 else ""
    return f"{quoted(fit.sites)}{together}: no closed form; nearest is {fit.family}{tried}"


def _moved(where: Coordinates, fit: Fitted, x: torch.Tensor, width: float) -> torch.Tensor:
    """x with its sites at a draw of the belief, so many times as wide."""
    assert fit.belief is not None
    return where.inside(replaced(where, fit.sites, x, where.partly(fit.belief.widened(width), fit.sites)))


def _varies(density: LogDensity, fit: Fitted, points: list[torch.Tensor]) -> float:
    """By how many nats log p(data, x) - log q(x) varies where it is finite, 0 if rounding may explain it."""
    offs, errors = [], []
    for point in points:
        total, (log_q, size) = density(point), fit.kernel(point)
        if (total - log_q).isfinite():
            offs.append((total - log_q).item())
            errors.append(FLOOR + ROUNDING * (abs(total.item()) + size))
    varies = max(offs, default=0.0) - min(offs, default=0.0)
    return varies if varies > max(errors, default=0.0) else 0.0
