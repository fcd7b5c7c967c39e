"""Whether a log density jumps along the way between two draws: the increments must be the integral of the slope.

    f(z1) - f(z0) = int_0^1 grad f(z(t)) . z'(t) dt        f = log p(x, z) - log q(z),  z(t) from one draw to another

A step, a `where` that jumps, a cast, a `detach` and a Python branch on the value break the equality, and with it every
pathwise gradient; a kink (ReLU) does not. What the trapezoid rule leaves over of the increments tells them apart: of an
interval that is halved again and again both halves together keep all of it at a jump, a half at a kink, and a quarter
where the slope is steep. Jumps that none of the ways between draws crosses are not seen.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch.distributions import biject_to

from ..pair.costs import GUIDE, Costs, Terms, run
from ..pair.pair import Pair
from ..runtime.generators import noise
from ..runtime.probes import at_a_draw, without_dropout
from ..runtime.sites import Site
from ..runtime.traced import first_line
from ..runtime.vectorise import at_once, each

BEYOND = (0.5, 3.0, 0.5, 1.0)  # how far the ways between two draws go on at both ends, relative to their length
SLOWLY = 2  # ways, where points are computed one by one
SHORTER = (1.0, 0.2, 0.0)  # of that, where the density cannot be computed so far out
POINTS, FINE = 65, 1025  # of a grid, and of a finer one where points are computed at once
AGAIN = 15  # times that one point is computed again at once: it has one density if the model draws no rows at random
LEFT = 0.02  # of the total variation: what may stay unexplained
WORST, HALVINGS, SURE = 6, 14, 4  # intervals, how often each is halved, and after how often a jump is alone in it
KEPT, HALF = 0.05, 0.5  # of what an interval leaves over: a jump keeps more; and more where rounding hides the rest
EVEN = 0.2  # of what the larger half keeps: the smaller half of a jump keeps less
NEGLIGIBLE = 1e-3  # nats: a smaller jump biases nothing that shows, and rounding leaves as much where p and q cancel
CLOSE = 1e-6  # of the way: points so close together show the rounding

JUMPS = "the log density jumps along its draws (a step, a cast, a detach, a Python branch?)"


def rough_sites(
    pair: Pair, sites: Mapping[str, Site], held: Mapping[str, torch.Tensor], kl: Mapping[str, str], vectorised: bool
) -> dict[str, str]:
    """{site: why its draw must not be differentiated}, of some sites with `rsample`.

    held: the draws of all other sites except Deltas, which follow. kl: sites with an improper prior, whose KL takes the
    place of their densities.
    """
    cause = _cause(pair, sites, held, kl, vectorised) if sites else None
    if cause is None:
        return {}
    values = {name: site["value"].detach() for name, site in sites.items()}
    found = {}
    for name in sites:
        others = {**held, **{k: v for k, v in values.items() if k != name}}
        if why := _cause(pair, {name: sites[name]}, others, kl, vectorised):
            found[name] = why
    return found or dict.fromkeys(sites, cause)


def _cause(
    pair: Pair, sites: Mapping[str, Site], held: Mapping[str, torch.Tensor], kl: Mapping[str, str], vectorised: bool
) -> str | None:
    """Why the draws of these sites must not be differentiated together; None if they may."""
    room: list[int] = []  # for how many points at once, once known
    with without_dropout(tuple(pair)):
        for beyond in BEYOND if vectorised else BEYOND[:SLOWLY]:
            try:
                if at_a_draw(partial(_jump_on_a_way, pair, sites, held, kl, vectorised, room, beyond)):
                    return JUMPS
            except Exception as error:  # of the user's own code, which may raise anything
                if vectorised:
                    return _cause(pair, sites, held, kl, False)
                return f"its log density cannot be computed between its draws ({first_line(error)})"
    return None


def _jump_on_a_way(
    pair: Pair,
    sites: Mapping[str, Site],
    held: Mapping[str, torch.Tensor],
    kl: Mapping[str, str],
    vectorised: bool,
    room: list[int],
    beyond: float,
    _: int,
) -> bool:
    """Whether f jumps between two draws and beyond, as far as it can be computed there. Raises what the pair raises."""
    ends = [{name: site["fn"].sample() for name, site in sites.items()} for _ in range(2)]
    for shorter in SHORTER:
        way = _way(pair, sites, held, kl, ends[0], ends[1], beyond * shorter, room)
        try:
            jumps = _jumps(way, vectorised)
        except Exception:  # of the user's own code, which may raise anything
            if not shorter:
                raise
            continue
        if jumps is not None:
            return jumps
    return False


class Points(NamedTuple):
    """Some points of a way, in their order. t, f: shape (M,), double. u: coordinates, shape (M, D); slope: df/du."""

    t: torch.Tensor
    f: torch.Tensor
    u: torch.Tensor
    slope: torch.Tensor

    def some(self, which: slice | torch.Tensor) -> "Points":
        return Points(*(v[which] for v in self))


Way = Callable[[torch.Tensor, bool], Points]  # of (t, shape (M,); whether under vmap)


def _way(
    pair: Pair,
    sites: Mapping[str, Site],
    held: Mapping[str, torch.Tensor],
    kl: Mapping[str, str],
    start: Mapping[str, torch.Tensor],
    end: Mapping[str, torch.Tensor],
    beyond: float,
    room: list[int],
) -> Way:
    """The way from one draw of the sites to another and beyond, straight in unconstrained coordinates."""
    to = {name: biject_to(site["fn"].support) for name, site in sites.items()}
    ends = {}
    for name in sites:
        a, b = to[name].inv(start[name]), to[name].inv(end[name])
        ends[name] = (a - beyond * (b - a), b + beyond * (b - a))

    def density(z: dict[str, torch.Tensor]) -> torch.Tensor:
        return _total(run(pair, {**held, **z}, Terms(kl=kl)).costs)

    def some(t: torch.Tensor) -> Points:
        u = {}
        for name, (a, b) in ends.items():
            s = t.reshape(-1, *[1] * a.dim()).to(a.dtype)
            u[name] = (a + s * (b - a)).requires_grad_()
        with torch.enable_grad():
            z = {name: to[name](v) for name, v in u.items()}
            f = each(density, z, True) if len(t) > 1 else _seeded(density, {k: v[0] for k, v in z.items()})[None]
        leaves = list(u.values())
        found = torch.autograd.grad(f.sum(), leaves, allow_unused=True) if f.requires_grad else [None] * len(leaves)
        slopes = [torch.zeros_like(v) if g is None else g for v, g in zip(leaves, found, strict=True)]
        return Points(t, f.detach().double().cpu(), _flat(leaves), _flat(slopes))

    def points(t: torch.Tensor, vectorised: bool) -> Points:
        if vectorised and not room:
            room.append(at_once(lambda: density({k: to[k](a) for k, (a, _) in ends.items()})))
        parts = [some(part) for part in t.split(room[0] if vectorised else 1)]  # a graph of all would fill the memory
        return Points(*map(torch.cat, zip(*parts, strict=True)))

    return points


def _flat(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([v.detach().reshape(len(v), -1) for v in parts], dim=1)


def _seeded(density: Callable[[dict[str, torch.Tensor]], torch.Tensor], z: dict[str, torch.Tensor]) -> torch.Tensor:
    with noise(0):
        return density(z)


def _total(costs: Costs) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for (side, _), cost in costs.items():
        total = total + (-1 if side == GUIDE else 1) * cost.sum(dtype=torch.float64)
    return total


def _left(a: Points, b: Points) -> torch.Tensor:
    """What the slopes at both ends leave unexplained of the increment of f from each a to its b, shape (M,).

    The increments of u are those of its rounded values: at a sd of 1e-4 rounding is a part of the way.
    """
    explained = ((a.slope + b.slope) / 2 * (b.u - a.u)).sum(1, dtype=torch.float64)
    return (b.f - a.f - explained.cpu()).abs()


def _jumps(way: Way, vectorised: bool) -> bool | None:
    """Whether f jumps along the way; None where it is not finite."""
    for n in (POINTS, FINE) if vectorised else (POINTS,):
        again = AGAIN if vectorised and n == POINTS else 0  # times that the middle comes once more
        t = torch.linspace(0, 1, n, dtype=torch.float64)
        points = way(torch.cat([t, t[n // 2].expand(again)]), vectorised)
        if not torch.allclose(points.f[n:], points.f[n // 2], 1e-6, 1e-6, equal_nan=True):  # some rows, at random
            return _jumps(way, False)
        a, b, points = points.some(slice(n - 1)), points.some(slice(1, n)), points.some(slice(n))
        left = _left(a, b)
        if not left.isfinite().all():
            return None
        rounding = n * 1e-6 * (1 + points.f.abs().max().item())
        bearable = LEFT * points.f.diff().abs().sum().item() + rounding
        if left.sum().item() <= bearable:
            return False
    rounding = 6 * _rounding(way)
    worst = left.topk(min(WORST, len(left))).indices
    worst = worst[left[worst] > max(bearable / len(left), 2 * rounding, NEGLIGIBLE)]
    return _keep(way, a.some(worst), b.some(worst), rounding, vectorised)


def _keep(way: Way, a: Points, b: Points, rounding: float, vectorised: bool) -> bool:
    """Whether one of the intervals from a to b keeps what it leaves over, however often it is halved.

    Rounding errors are kept too, but by both halves.
    """
    start = left = _left(a, b)
    kept, larger, smaller, halved = torch.ones_like(left), *(torch.zeros_like(left) for _ in range(3))
    for k in range(HALVINGS):
        apart = (b.u - a.u).abs() > 16 * torch.finfo(a.u.dtype).eps * a.u.abs()  # halves of fewer numbers show nothing
        seen = (left > rounding) & apart.any(1).cpu()
        if not seen.any():
            break
        middle = way((a.t + b.t) / 2, vectorised)
        one, two = _left(a, middle), _left(middle, b)
        halved = halved + seen
        kept = torch.where(seen, kept * ((one + two) / left).clamp(max=1), kept)
        first = one >= two
        a, b = _where(first, a, middle), _where(first, middle, b)
        left = torch.where(seen, torch.maximum(one, two), left)
        if k >= SURE:
            larger = torch.where(seen, larger + torch.maximum(one, two), larger)
            smaller = torch.where(seen, smaller + torch.minimum(one, two), smaller)
    by_both = (smaller > EVEN * larger) & (left > KEPT * start)
    lost = ((left <= rounding) | (halved <= SURE)) & ((kept < HALF) | (start < 8 * rounding))  # among rounding errors
    return bool(((kept > KEPT) & ~by_both & ~lost).any())


def _where(first: torch.Tensor, a: Points, b: Points) -> Points:
    """a where `first`, else b."""
    return Points(
        *(torch.where(first.to(v.device).reshape(-1, *[1] * (v.dim() - 1)), v, w) for v, w in zip(a, b, strict=True))
    )


def _rounding(way: Way) -> float:
    """The size of rounding errors of f: what most points that are close together leave over."""
    ends = way(torch.tensor([0.31, 0.32], dtype=torch.float64), False).u
    step = 0.01 * torch.finfo(ends.dtype).eps * (ends.abs() / ends.diff(dim=0).abs()).nan_to_num(0, 0).max().item()
    t = 0.31 + min(max(CLOSE, 16 * step), 1e-2) * torch.arange(13, dtype=torch.float64)  # or draws would be the same
    points = way(t, False)
    error = _left(points.some(slice(None, -1)), points.some(slice(1, None))).quantile(0.75).item()
    return error if math.isfinite(error) else 0.0
