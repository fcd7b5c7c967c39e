"""The family of each block, and its parameters, from slopes and curvatures of log p(data, x).

Nothing is decided here for good: whether what was found is the posterior is for `proof` to say.
"""

import torch

from .belief import Fitted
from .blocks import Block, find_blocks
from .coordinates import ABOVE, INTERVAL, POSITIVE, REAL, SIMPLEX, Coordinates
from .derivatives import LogDensity, slope
from .families import NORMAL, Family, Match, centre, families_on, fitted, match, stick_shift
from .gaussian import gaussian, solve_gaussians
from .log_joint import LogJoint
from .normal_gamma import may_be_normal_gamma, normal_gamma

POINTS = 5


ROUNDS = 2  # the second at points around what the first has found, where that is not among its own points


SURE = 1e-11  # a relative misfit of the slopes that is rounding


def solve(f: LogJoint, where: Coordinates, starts: list[torch.Tensor], rows: int) -> list[Fitted]:
    """What fits each block best. starts: points x of the prior. rows: of the data, for memory."""
    density = in_coordinates(f, where)
    blocks = find_blocks(density, where, [scattered(where, starts, 1.0) for _ in range(2)], rows)
    one_by_one = [b for b in blocks if _has_families(b, where)]
    x = starts[0].clone()
    matches = _match(density, where, one_by_one, starts, x)
    fits = {
        block.sites: fitted(found, block, where)
        for block, found in zip(one_by_one, matches, strict=True)
        if found.family is not NORMAL
    }
    rest = [b for b in blocks if b.sites not in fits]
    solved = solve_gaussians(density, x, [b.place for b in rest], rows) if rest else []
    for block, (mu, Lambda, L) in zip(rest, solved, strict=True):
        tilt = slope(density, x)[block.place] if L is None else None
        fits[block.sites] = gaussian(block, where, mu, Lambda, L, tilt)
        if may_be_normal_gamma(block, where):
            other = normal_gamma(density, x, block, where, rows)
            points = [varied(where, starts, block.sites, x) for _ in range(4)]
            if other is not None and variation(density, other, points) < variation(density, fits[block.sites], points):
                fits[block.sites] = other
    return [fits[b.sites] for b in blocks]


def in_coordinates(f: LogJoint, where: Coordinates) -> LogDensity:
    """log p(data, x), the Jacobian included."""
    return lambda x: f(where.values(x)).total + where.log_jacobian(x)


def scattered(where: Coordinates, starts: list[torch.Tensor], width: float) -> torch.Tensor:
    """A point whose coordinates are independent: as wide as the prior where they are real, wide where they are not."""
    prior = torch.stack(starts)
    spread = (prior - prior.mean(0)).abs().amax(0).clamp(min=1e-12)
    x = prior.mean(0) + width * spread * torch.randn_like(spread)
    for v in where.variables.values():
        if v.support != REAL:
            x[v.part] = {POSITIVE: 4.0, ABOVE: 2.0}.get(v.support, 2.5) * (2 * torch.rand(v.free.numel()) - 1)
    return where.inside(x)


def varied(where: Coordinates, starts: list[torch.Tensor], sites: tuple[str, ...], x: torch.Tensor) -> torch.Tensor:
    """x with the coordinates of these sites elsewhere."""
    return replaced(where, sites, x, scattered(where, starts, 1.0))


def replaced(where: Coordinates, sites: tuple[str, ...], x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """x with the coordinates that these sites have in another point."""
    point = x.clone()
    for name in sites:
        part = where.variables[name].part
        point[part] = other[part]
    return point


def variation(density: LogDensity, fit: Fitted, points: list[torch.Tensor]) -> float:
    """By how many nats log p(data, x) - log q(x) varies over points that differ in the block of q alone."""
    with torch.no_grad():
        left = torch.stack([density(x) - fit.kernel(x)[0] for x in points])
    return (left.max() - left.min()).nan_to_num(torch.inf).item()


def _has_families(block: Block, where: Coordinates) -> bool:
    """Whether the numbers of a block are of one site, apart, and neither real nor anything that only a normal is."""
    v = where.variables[block.sites[0]]
    if len(block.sites) > 1:
        return False
    return block.width == (v.free[-1] if v.support == SIMPLEX else 1) and v.support in (POSITIVE, INTERVAL, SIMPLEX)


def _match(
    density: LogDensity, where: Coordinates, blocks: list[Block], starts: list[torch.Tensor], x: torch.Tensor
) -> list[Match]:
    """The best family for each block; x is moved to their modes."""
    found: list[Match] = []
    shifts = [stick_shift(v).reshape(-1)[b.place - v.start] for b in blocks for v in [where.variables[b.sites[0]]]]
    for _ in range(ROUNDS if blocks else 0):
        points = [scattered(where, starts, 1.0) for _ in range(POINTS)]
        if found:
            for point in points:
                for block in blocks:
                    point[block.place] = x[block.place] + 3 * torch.rand(block.place.shape, dtype=x.dtype) - 1.5
        xs = torch.stack([where.inside(point) for point in points])
        slopes = torch.stack([slope(density, point) for point in xs])
        choices: list[tuple[Family, ...]] = [(m.family,) for m in found] or [
            families_on(where.variables[b.sites[0]].support) for b in blocks
        ]
        found = [
            min((match(family, xs[:, b.place], slopes[:, b.place], shift) for family in some), key=lambda m: m.misfit)
            for b, some, shift in zip(blocks, choices, shifts, strict=True)
        ]
        for block, m, shift in zip(blocks, found, shifts, strict=True):
            x[block.place] = centre(m, shift)
        x.copy_(where.inside(x))
        among = [(x[b.place] - shift).abs().max() < 2 for b, shift in zip(blocks, shifts, strict=True)]
        if all(among) and all(m.misfit < SURE for m in found):
            break
    return found
