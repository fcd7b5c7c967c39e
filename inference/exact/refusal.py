"""Why there is no closed form: the site whose family fails nearest to the posterior, and by how many nats."""

from collections.abc import Callable

import torch

from ..runtime.sites import quoted
from .block_posterior import Candidate
from .coordinates import REAL, Coordinates, Values
from .families import families_on
from .log_joint import LogJoint, first_not_finite, scored
from .no_closed_form import NoClosedForm
from .points import wide
from .problem import Problem

SDS = {"within 1 sd": 1.0, "within 3 sds": 3.0, "within 10 sds": 10.0}
POINTS = 6  # at each distance
ROUNDING = (
    2.0**20 * torch.finfo(torch.float64).eps
)  # relative; looser than in `proof`, for it only chooses the site to name
FLOOR = 1e-7  # nats
Points = Callable[[Candidate], list[torch.Tensor]]


def refusal(
    problem: Problem, candidates: list[Candidate], failed: Values | None = None, off: float = 0.0
) -> NoClosedForm:
    """The error to raise. failed: the values at which the check failed, if it ran, by `off` nats."""
    f, coordinates, starts = problem.log_joint, problem.coordinates, problem.starts
    x = starts[0].clone()
    for c in candidates:
        if c.posterior is not None:
            x = _moved(coordinates, c, x, 1.0)
    variations = {
        words: [_variation(problem, c, [x, *points(c)]) for c in candidates]
        for words, points in _distances(problem, candidates, x, failed)
    }
    for words, nats in variations.items():
        for i, c in enumerate(candidates):
            if nats[i] > 0:
                worst = max(some[i] for some in variations.values())
                more = f", and by {worst:.3g} nats elsewhere" if worst > 2 * nats[i] else ""
                place = words if len(c.sites) == 1 else words.replace("its centre", "their centre")
                return NoClosedForm(
                    f"{_nearest_family(coordinates, c)}: log p(data, z) - log q(z) varies by {nats[i]:.3g} nats "
                    f"{place}{more}"
                )
    scattered = [problem.scattered() for _ in range(POINTS)]
    for point in [failed, *(coordinates.values(p) for p in [*starts, *scattered])]:
        if point is not None and not f(point).total.isfinite():
            return _impossible(f, point)
    for c in candidates:
        if c.posterior is None:
            return NoClosedForm(
                f"{quoted(c.sites)}: the posterior is improper, it would be {c.family} with {c.parameters}; give "
                f"{'it' if len(c.sites) == 1 else 'them'} a proper prior"
            )
    sites = [name for c in candidates for name in c.sites]
    families = ", ".join(sorted({c.family for c in candidates}))
    return NoClosedForm(
        f"{quoted(sites)}: no closed form; nearest is {families}: log p(data, z) - log q(z) varies by {off:.3g} nats, "
        f"more than rounding explains"
    )


def _distances(
    problem: Problem, candidates: list[Candidate], x: torch.Tensor, failed: Values | None
) -> list[tuple[str, Points]]:
    """(how far, in words; points that differ from x only in the sites of a candidate), the nearest first."""
    coordinates = problem.coordinates

    def within(width: float) -> Points:
        return lambda c: [_moved(coordinates, c, x, width) for _ in range(POINTS)] if c.posterior else []

    distances = [(f"{words} of its centre", within(width)) for words, width in SDS.items()]
    if failed is not None:
        point = coordinates.flat(failed)
        shown = ", ".join(f"{name!r} = {value.flatten()[0].item():.4g}" for name, value in [*failed.items()][:3])
        between = f"between its centre and {shown}"
        distances.append((between, lambda c: [coordinates.replaced(x, c.sites, point)]))
    distances.append(("over the prior", lambda c: [problem.varied(x, c.sites) for _ in range(POINTS)]))
    far = wide(problem, candidates) if all(c.posterior for c in candidates) else [problem.scattered(10.0)] * 2
    distances.append(("far beyond the prior", lambda c: [coordinates.replaced(x, c.sites, other) for other in far]))
    return distances


def _impossible(f: LogJoint, z: Values) -> NoClosedForm:
    at = ", ".join(f"{name!r} is {value.flatten()[0].item():.4g}" for name, value in [*z.items()][:3])
    return NoClosedForm(
        f"{first_not_finite(scored(f.trace({**f.held, **z})))} where {at}, inside their supports: either the support "
        f"of the data depends on latents, or a density overflows; no conjugate family does either"
    )


def _nearest_family(coordinates: Coordinates, candidate: Candidate) -> str:
    together = "" if len(candidate.sites) == 1 else ", which depend on each other"
    v = coordinates.variables[candidate.sites[0]]
    others = [family.name for family in families_on(v.support) if len(candidate.sites) == 1 and v.support != REAL]
    tried = f" (tried: {', '.join(others)})" if len(others) > 1 else ""
    return f"{quoted(candidate.sites)}{together}: no closed form; nearest is {candidate.family}{tried}"


def _moved(coordinates: Coordinates, candidate: Candidate, x: torch.Tensor, width: float) -> torch.Tensor:
    """x with the sites of a candidate at one of its draws, this many times as wide."""
    assert candidate.posterior is not None
    drawn = coordinates.flat_of(candidate.posterior.sample_wider(width), candidate.sites)
    return coordinates.inside(coordinates.replaced(x, candidate.sites, drawn))


def _variation(problem: Problem, candidate: Candidate, points: list[torch.Tensor]) -> float:
    """By how many nats log p(data, x) - log q(x) varies where it is finite; 0 if rounding may explain it."""
    offs, errors = [], []
    for point in points:
        total, (log_q, magnitude) = problem.log_density(point), candidate.kernel(point)
        if (total - log_q).isfinite():
            offs.append((total - log_q).item())
            errors.append(FLOOR + ROUNDING * (abs(total.item()) + magnitude))
    varies = max(offs, default=0.0) - min(offs, default=0.0)
    return varies if varies > max(errors, default=0.0) else 0.0
