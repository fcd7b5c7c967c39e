"""Finds a candidate for each block: its family and parameters, from gradients and second derivatives of log p(data, x).

`proof` checks afterwards that the candidates are the posterior.
"""

import torch

from .block_posterior import Candidate
from .blocks import Block, find_blocks
from .coordinates import INTERVAL, POSITIVE, SIMPLEX, Coordinates
from .derivatives import gradient
from .families import NORMAL, Family, Match, families_on, family_candidate, match, mode, stick_shift
from .gaussian import gaussian_candidate, solve_gaussians
from .normal_gamma import may_be_normal_gamma, normal_gamma_candidate
from .problem import Problem

POINTS = 5
ROUNDS = 2  # the second fits at points around the first mode, where that lies outside the first points
SURE = 1e-11  # a relative misfit of the gradients that is rounding


def solve(problem: Problem) -> list[Candidate]:
    """The best candidate for each block, in the order of the model."""
    coordinates = problem.coordinates
    blocks = find_blocks(problem, [problem.scattered() for _ in range(2)])
    single = [b for b in blocks if _has_families(b, coordinates)]
    x = problem.starts[0].clone()
    candidates = {
        block.sites: family_candidate(fit, block, coordinates)
        for block, fit in zip(single, _match(problem, single, x), strict=True)
        if fit.family is not NORMAL
    }
    rest = [b for b in blocks if b.sites not in candidates]
    solved = solve_gaussians(problem, x, [b.place for b in rest]) if rest else []
    for block, newton in zip(rest, solved, strict=True):
        tilt = gradient(problem.log_density, x)[block.place] if newton.L is None else None
        candidates[block.sites] = gaussian_candidate(block, coordinates, newton, tilt)
        if may_be_normal_gamma(block, coordinates):
            other = normal_gamma_candidate(problem, x, block)
            points = [problem.varied(x, block.sites) for _ in range(4)]
            if other is not None and _variation(problem, other, points) < _variation(
                problem, candidates[block.sites], points
            ):
                candidates[block.sites] = other
    return [candidates[b.sites] for b in blocks]


def _variation(problem: Problem, candidate: Candidate, points: list[torch.Tensor]) -> float:
    """By how many nats log p(data, x) - log q(x) varies over points that differ only in the block of q."""
    with torch.no_grad():
        residuals = torch.stack([problem.log_density(x) - candidate.kernel(x)[0] for x in points])
    return (residuals.max() - residuals.min()).nan_to_num(torch.inf).item()


def _has_families(block: Block, coordinates: Coordinates) -> bool:
    """Whether a block is one site of independent numbers (or simplices) on a support that has families of its own."""
    v = coordinates.variables[block.sites[0]]
    if len(block.sites) > 1:
        return False
    return block.width == (v.free[-1] if v.support == SIMPLEX else 1) and v.support in (POSITIVE, INTERVAL, SIMPLEX)


def _match(problem: Problem, blocks: list[Block], x: torch.Tensor) -> list[Match]:
    """The best family for each block; moves x to their modes, in place."""
    coordinates = problem.coordinates
    fits: list[Match] = []
    variables = [coordinates.variables[b.sites[0]] for b in blocks]
    shifts = [stick_shift(v).reshape(-1)[b.place - v.start] for b, v in zip(blocks, variables, strict=True)]
    for _ in range(ROUNDS if blocks else 0):
        points = [problem.scattered() for _ in range(POINTS)]
        if fits:
            for point in points:
                for block in blocks:
                    point[block.place] = x[block.place] + 3 * torch.rand(block.place.shape, dtype=x.dtype) - 1.5
        xs = torch.stack([coordinates.inside(point) for point in points])
        gradients = torch.stack([gradient(problem.log_density, point) for point in xs])
        choices: list[tuple[Family, ...]] = [(m.family,) for m in fits] or [families_on(v.support) for v in variables]
        fits = [
            min((match(f, xs[:, b.place], gradients[:, b.place], shift) for f in families), key=lambda m: m.misfit)
            for b, families, shift in zip(blocks, choices, shifts, strict=True)
        ]
        for block, m, shift in zip(blocks, fits, shifts, strict=True):
            x[block.place] = mode(m, shift)
        x.copy_(coordinates.inside(x))
        among = [(x[b.place] - shift).abs().max() < 2 for b, shift in zip(blocks, shifts, strict=True)]
        if all(among) and all(m.misfit < SURE for m in fits):
            break
    return fits
