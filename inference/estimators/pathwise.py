"""Pathwise gradients (reparametrisation): legal where the increments of log p - log q are the integral of its slope.

    f(z1) - f(z0) = int_0^1 grad f(z(t)) . z'(t) dt        f = log p(x, z) - log q(z),  z(t) from one draw to another

A step, a `where` that jumps, a cast, a `detach` and a Python branch on the value break the equality, and with it every
pathwise gradient; a kink (ReLU) does not. A coarse grid is followed by a finer one, then by bisection: a steep slope
comes apart, a jump stays one. Jumps that none of the ways between draws crosses are not seen.

Source: Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014; implicit: Figurnov, Mohamed and Mnih 2018.
"""

import heapq
import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from pyro import poutine
from torch.distributions import biject_to

from ..distributions.unwrap import kind
from ..pair.costs import GUIDE, Costs, Terms, run
from ..pair.pair import Pair
from ..runtime.generators import noise
from ..runtime.probes import without_dropout
from ..runtime.sites import Site, drawn_sites, has_rsample, latent
from ..runtime.vectorise import at_once, each
from .estimator import ANALYTIC_KL, LOG_Q, STICKING, Estimator, Findings

BEYOND = (0.5, 0.5, 1.0, 3.0)  # how far the way between two draws goes on at both ends, relative to its length
POINTS, FINE, BISECTIONS = 65, 1025, 200
LEFT = 0.02  # of the total variation: what may stay unexplained; a kink leaves at most a third of it at 64 steps


def rough_sites(
    pair: Pair, sites: Mapping[str, Site], held: Mapping[str, torch.Tensor], kl: Mapping[str, str], vectorised: bool
) -> list[str]:
    """The sites, among some with `rsample`, along whose draws the log density jumps.

    held: the draws of all other sites except Deltas, which follow. kl: sites with an improper prior, whose KL takes the
    place of their densities.
    """
    if not sites or not _jumps(pair, sites, held, kl, vectorised):
        return []
    values = {name: site["value"].detach() for name, site in sites.items()}
    found = [
        name
        for name in sites
        if _jumps(pair, {name: sites[name]}, {**held, **{k: v for k, v in values.items() if k != name}}, kl, vectorised)
    ]
    return found or list(sites)


def _jumps(
    pair: Pair, sites: Mapping[str, Site], held: Mapping[str, torch.Tensor], kl: Mapping[str, str], vectorised: bool
) -> bool:
    with without_dropout(tuple(pair)):
        for beyond in BEYOND:
            ends = [{name: site["fn"].sample() for name, site in sites.items()} for _ in range(2)]
            slopes = _along(pair, sites, held, kl, ends[0], ends[1], beyond)
            if _unexplained(slopes, vectorised and _still(slopes)):
                return True
    return False


Point = tuple[float, float, float]  # t, f, df/dt
Slopes = Callable[[torch.Tensor, bool], tuple[torch.Tensor, torch.Tensor]]


def _along(
    pair: Pair,
    sites: Mapping[str, Site],
    held: Mapping[str, torch.Tensor],
    kl: Mapping[str, str],
    start: Mapping[str, torch.Tensor],
    end: Mapping[str, torch.Tensor],
    beyond: float,
) -> Slopes:
    """The function (t, shape (M,); whether under vmap) -> (f(z(t)), df/dt), shape (M,) each."""
    to = {name: biject_to(site["fn"].support) for name, site in sites.items()}
    ends = {}
    for name in sites:
        a, b = to[name].inv(start[name]), to[name].inv(end[name])
        ends[name] = (a - beyond * (b - a), b + beyond * (b - a))

    def density(z: dict[str, torch.Tensor]) -> torch.Tensor:
        return _total(run(pair, {**held, **z}, Terms(kl=kl)).costs)

    def slopes(t: torch.Tensor, vectorised: bool) -> tuple[torch.Tensor, torch.Tensor]:
        z, speed = {}, {}
        for name, (a, b) in ends.items():
            s = t.reshape(-1, *[1] * a.dim()).to(a.dtype)
            u = (a + s * (b - a)).requires_grad_()
            z[name] = to[name](u)
            speed[name] = (u, b - a)
        with torch.enable_grad():
            vectorised = vectorised and at_once(lambda: density({k: v[0].detach() for k, v in z.items()})) >= len(t)
            if vectorised:
                f = each(density, z, True)
            else:
                f = torch.stack([_seeded(density, {k: v[i] for k, v in z.items()}) for i in range(len(t))])
        leaves = [u for u, _ in speed.values()]
        gradients = torch.autograd.grad(f.sum(), leaves, allow_unused=True) if f.requires_grad else [None] * len(leaves)
        df = torch.zeros(len(t), dtype=torch.float64)
        for g, (_, velocity) in zip(gradients, speed.values(), strict=True):
            if g is not None:
                df = df + (g * velocity).double().reshape(len(t), -1).sum(1)
        return f.detach().double(), df

    return slopes


def _seeded(density: Callable[[dict[str, torch.Tensor]], torch.Tensor], z: dict[str, torch.Tensor]) -> torch.Tensor:
    with noise(0):
        return density(z)


def _total(costs: Costs) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for (side, _), cost in costs.items():
        total = total + (-1 if side == GUIDE else 1) * cost.sum(dtype=torch.float64)
    return total


def _unexplained(slopes: Slopes, vectorised: bool) -> bool:
    for points in (POINTS, FINE if vectorised else FINE // 4):
        t = torch.linspace(0, 1, points, dtype=torch.float64)
        f, df = slopes(t, vectorised)
        ends = list(zip(t.tolist(), f.tolist(), df.tolist(), strict=True))
        left = [_left(a, b) for a, b in pairwise(ends)]
        if not all(map(math.isfinite, left)):
            return False
        bearable = LEFT * f.diff().abs().sum().item() + points * 1e-6 * (1 + f.abs().max().item())  # and rounding
        if sum(left) <= bearable:
            return False
    worst = [(-rest, a, b) for rest, (a, b) in zip(left, pairwise(ends), strict=True)]
    heapq.heapify(worst)
    total = sum(left)
    for _ in range(BISECTIONS):
        rest, a, b = heapq.heappop(worst)
        f, df = slopes(torch.tensor([(a[0] + b[0]) / 2], dtype=torch.float64), False)
        middle = ((a[0] + b[0]) / 2, f.item(), df.item())
        for one, two in ((a, middle), (middle, b)):
            heapq.heappush(worst, (-_left(one, two), one, two))
        total = total + rest + _left(a, middle) + _left(middle, b)
        if not total > bearable:
            return False
    return True


def _still(slopes: Slopes) -> bool:
    """Whether the density is the same at the same draw: not if the model takes a part of its rows at random."""
    f, _ = slopes(torch.full((16,), 0.5, dtype=torch.float64), True)
    return torch.equal(f, f[:1].expand_as(f))


def _left(a: Point, b: Point) -> float:
    """What the derivative at both ends leaves unexplained of an increment."""
    return abs(b[1] - a[1] - (a[2] + b[2]) / 2 * (b[0] - a[0]))


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
    jumping = rough_sites(pair, sites, held, kl, vectorised)
    return dict.fromkeys(jumping, "the log density jumps along its draws (a step, a cast, a detach, a Python branch?)")


ESTIMATOR = Estimator(
    "pathwise",
    (LOG_Q, ANALYTIC_KL, STICKING),
    why_not,
    because,
    paired=True,
    along_draw=True,
    can_be_forced=has_rsample,
)
