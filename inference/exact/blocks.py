"""Which latents depend on each other, found by looking: does the slope in one change when another moves?

The coordinates of sites that do are one block. Within a block, rows of a plate (and entries of an event) that do not
move each other are rows: their posteriors are independent, and are found all at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from .coordinates import SIMPLEX, Coordinates, Variable
from .derivatives import LogDensity, curved

NOTHING = 1e-12  # a curvature so much smaller than others is rounding


MASKS = 2


class Block(NamedTuple):
    """Sites that depend on each other. place: (R, k), where in x the k coordinates of each of R rows stand."""

    sites: tuple[str, ...]
    place: torch.Tensor

    @property
    def rows(self) -> int:
        return self.place.shape[0]

    @property
    def width(self) -> int:
        return self.place.shape[1]


def find_blocks(f: LogDensity, where: Coordinates, xs: list[torch.Tensor], rows: int) -> list[Block]:
    """The blocks, in the order of the model. xs: points to look at. rows: of the data, for memory."""
    variables = where.variables
    groups = _groups(f, where, xs, rows) if len(variables) > 1 else [[name] for name in variables]
    shared = [_axes([variables[name] for name in group]) for group in groups]
    questions = [(i, axis) for i, axes in enumerate(shared) for axis in axes]
    apart = _apart(f, where, xs, [[variables[n] for n in g] for g in groups], questions, rows)
    return [
        Block(
            tuple(group), _index([variables[n] for n in group], [a for j, a in questions if j == i and (j, a) in apart])
        )
        for i, group in enumerate(groups)
    ]


def _groups(f: LogDensity, where: Coordinates, xs: list[torch.Tensor], rows: int) -> list[list[str]]:
    variables = list(where.variables.values())
    strength = torch.zeros(len(variables), len(variables), dtype=torch.float64)
    for x in xs:
        directions = torch.zeros(len(variables), len(x), dtype=x.dtype)
        for i, v in enumerate(variables):
            directions[i, v.part] = torch.randn(v.free.numel(), dtype=x.dtype)
        _, moved = curved(f, x, directions, rows)
        for j, v in enumerate(variables):
            strength[:, j] = torch.maximum(strength[:, j], moved[:, v.part].abs().amax(1).nan_to_num(0.0).cpu())
    scale = strength.diagonal().sqrt()
    tied = (strength > NOTHING * scale[:, None] * scale[None, :]) & (strength > 0)
    tied = tied | tied.T
    groups: list[set[int]] = []
    for i in range(len(variables)):
        mine = {i, *tied[i].nonzero().flatten().tolist()}
        touching = [g for g in groups if g & mine]
        groups = [g for g in groups if not g & mine] + [mine.union(*touching)]
    return [[variables[i].name for i in sorted(g)] for g in sorted(groups, key=min)]


def _axes(group: list[Variable]) -> list[str | int]:
    """What may hold independent rows: of a site alone its dimensions, of several the plates that they share."""
    if len(group) == 1:
        (v,) = group
        n = len(v.free) - (1 if v.support == SIMPLEX else 0)
        return [axis for axis in range(n) if v.free[axis] > 1]
    shared = set.intersection(*(set(v.plates) for v in group))
    return [p for p in group[0].plates if p in shared and all(v.free[v.plates[p]] > 1 for v in group)]


def _axis(v: Variable, axis: str | int) -> int:
    return v.plates[axis] if isinstance(axis, str) else axis


def _apart(
    f: LogDensity,
    where: Coordinates,
    xs: list[torch.Tensor],
    groups: list[list[Variable]],
    questions: list[tuple[int, str | int]],
    rows: int,
) -> set[tuple[int, str | int]]:
    """The (group, axis) along which one half of the rows, chosen at random, does not move the other."""
    apart = set(questions)
    for x in xs if questions else ():
        asked = [(q, half) for q in questions for half in _halves(groups[q[0]][0].free[_axis(groups[q[0]][0], q[1])])]
        directions = torch.zeros(len(asked), len(x), dtype=x.dtype)
        for d, ((i, axis), half) in zip(directions, asked, strict=True):
            for v in groups[i]:
                d[v.part] = (torch.randn(v.free, dtype=x.dtype) * _along(v, axis, half)).reshape(-1)
        _, moved = curved(f, x, directions, rows)
        for m, (question, half) in zip(moved.nan_to_num(torch.inf), asked, strict=True):
            group = groups[question[0]]
            inside = torch.cat([_along(v, question[1], half).expand(v.free).reshape(-1) for v in group])
            found = torch.cat([m[v.part] for v in group]).abs()
            if found[inside == 0].max() > NOTHING * found[inside == 1].max():
                apart.discard(question)
    return apart


def _halves(n: int) -> Iterator[torch.Tensor]:
    for _ in range(MASKS):
        half = torch.zeros(n, dtype=torch.float64)
        half[torch.randperm(n)[: (n + 1) // 2]] = 1.0
        yield half


def _along(v: Variable, axis: str | int, half: torch.Tensor) -> torch.Tensor:
    shape = [1] * len(v.free)
    shape[_axis(v, axis)] = -1
    return half.reshape(shape).expand(v.free)


def _index(group: list[Variable], apart: list[str | int]) -> torch.Tensor:
    parts = []
    for v in group:
        first = [_axis(v, axis) for axis in apart]
        others = [d for d in range(len(v.free)) if d not in first]
        stood = torch.arange(v.start, v.start + v.free.numel()).reshape(v.free).permute([*first, *others])
        rows = 1
        for axis in first:
            rows *= v.free[axis]
        parts.append(stood.reshape(rows, -1))
    return torch.cat(parts, 1)
