"""Blocks: which latents depend on each other in the posterior.

Two latents depend on each other if the gradient in one changes when the other moves, d^2 f / dx_i dx_j != 0. Such sites
form one block. Within a block, rows of a plate (or entries of an event) that do not depend on each other are solved
separately, all at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from ..runtime.components import connected
from .coordinates import SIMPLEX, Variable
from .derivatives import hessian_products
from .problem import Problem

NEGLIGIBLE = 1e-12  # relative: a second derivative below it is rounding
HALVES = 2  # random halves of the rows, for each question

Axis = str | int  # a plate by name, or a dimension of a site's coordinates


class Block(NamedTuple):
    """Sites that depend on each other, in R independent rows of k coordinates. place: (R, k), their indices in x."""

    sites: tuple[str, ...]
    place: torch.Tensor

    @property
    def rows(self) -> int:
        return self.place.shape[0]

    @property
    def width(self) -> int:
        return self.place.shape[1]


class _Question(NamedTuple):
    """Are the rows along this axis of this group independent?"""

    group: int
    axis: Axis


def find_blocks(problem: Problem, xs: list[torch.Tensor]) -> list[Block]:
    """The blocks, in the order of the model. xs: points x (D,) at which second derivatives are taken."""
    variables = problem.coordinates.variables
    groups = _dependent(problem, xs) if len(variables) > 1 else [[v] for v in variables.values()]
    questions = [_Question(i, axis) for i, group in enumerate(groups) for axis in _axes(group)]
    independent = _independent(problem, xs, groups, questions)
    return [
        Block(
            tuple(v.name for v in group),
            _place(group, [q.axis for q in questions if q.group == i and q in independent]),
        )
        for i, group in enumerate(groups)
    ]


def _dependent(problem: Problem, xs: list[torch.Tensor]) -> list[list[Variable]]:
    """Groups of variables that depend on each other, directly or through others."""
    variables = list(problem.coordinates.variables.values())
    strength = torch.zeros(len(variables), len(variables), dtype=torch.float64)
    for x in xs:
        directions = torch.zeros(len(variables), len(x), dtype=x.dtype)
        for i, v in enumerate(variables):
            directions[i, v.part] = torch.randn(v.free.numel(), dtype=x.dtype)
        _, moved = hessian_products(problem.log_density, x, directions, problem.rows)
        for j, v in enumerate(variables):
            strength[:, j] = torch.maximum(strength[:, j], moved[:, v.part].abs().amax(1).nan_to_num(0.0).cpu())
    scale = strength.diagonal().sqrt()
    tied = (strength > NEGLIGIBLE * scale[:, None] * scale[None, :]) & (strength > 0)
    tied = tied | tied.T
    groups = connected({i: {i, *tied[i].nonzero().flatten().tolist()} for i in range(len(variables))})
    return [[variables[i] for i in group] for group in sorted(groups)]


def _axes(group: list[Variable]) -> list[Axis]:
    """Axes whose rows may be independent: the dimensions of a single site, or the plates that several sites share."""
    if len(group) == 1:
        (v,) = group
        n = len(v.free) - (1 if v.support == SIMPLEX else 0)
        return [axis for axis in range(n) if v.free[axis] > 1]
    shared = set.intersection(*(set(v.plates) for v in group))
    return [p for p in group[0].plates if p in shared and all(v.free[v.plates[p]] > 1 for v in group)]


def _dimension(v: Variable, axis: Axis) -> int:
    return v.plates[axis] if isinstance(axis, str) else axis


def _independent(
    problem: Problem, xs: list[torch.Tensor], groups: list[list[Variable]], questions: list[_Question]
) -> set[_Question]:
    """The questions answered with yes: one random half of the rows does not change the gradient of the other half."""
    independent = set(questions)
    for x in xs if questions else ():
        asked = []
        for q in questions:
            first = groups[q.group][0]
            asked += [(q, half) for half in _halves(first.free[_dimension(first, q.axis)])]
        directions = torch.zeros(len(asked), len(x), dtype=x.dtype)
        for d, (q, half) in zip(directions, asked, strict=True):
            for v in groups[q.group]:
                d[v.part] = (torch.randn(v.free, dtype=x.dtype) * _along(v, q.axis, half)).reshape(-1)
        _, moved = hessian_products(problem.log_density, x, directions, problem.rows)
        for m, (q, half) in zip(moved.nan_to_num(torch.inf), asked, strict=True):
            group = groups[q.group]
            inside = torch.cat([_along(v, q.axis, half).expand(v.free).reshape(-1) for v in group])
            change = torch.cat([m[v.part] for v in group]).abs()
            if change[inside == 0].max() > NEGLIGIBLE * change[inside == 1].max():
                independent.discard(q)
    return independent


def _halves(n: int) -> Iterator[torch.Tensor]:
    """Masks (n,) of a random half of n rows."""
    for _ in range(HALVES):
        half = torch.zeros(n, dtype=torch.float64)
        half[torch.randperm(n)[: (n + 1) // 2]] = 1.0
        yield half


def _along(v: Variable, axis: Axis, half: torch.Tensor) -> torch.Tensor:
    """A mask of rows along this axis, expanded to the shape of the coordinates of a variable."""
    shape = [1] * len(v.free)
    shape[_dimension(v, axis)] = -1
    return half.reshape(shape).expand(v.free)


def _place(group: list[Variable], axes: list[Axis]) -> torch.Tensor:
    """The indices in x of the coordinates of a group, (R, k): one row for each combination along these axes."""
    parts = []
    for v in group:
        first = [_dimension(v, axis) for axis in axes]
        others = [d for d in range(len(v.free)) if d not in first]
        index = torch.arange(v.start, v.start + v.free.numel()).reshape(v.free).permute([*first, *others])
        rows = 1
        for axis in first:
            rows *= v.free[axis]
        parts.append(index.reshape(rows, -1))
    return torch.cat(parts, 1)
