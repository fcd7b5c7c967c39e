"""The best normal of a density in a family smaller than that of all normals: mean field, or few factors.

    ascents (Pathfinder)  ->  the family's start beside the best dense normal of each mode  ->  fixed draws

The dense normals only say where to start and how latents move together; they need not be good ones.
"""

from collections.abc import Callable

from .approximate import FEWEST
from .arrow_ascent import arrow_paths
from .blocks import blocks
from .density import Density
from .fixed_draws import LARGEST, Family, on_fixed_draws
from .full_rank import DEAR, FullRank, cheap_hessians, cheap_values, draws_for, starting_points, weights_of
from .full_rank_normal import FullRankNormal, Scores, elsewhere
from .starts import Path, pathfinder

FEW = 1024  # pairs of draws at most, where a gradient is dear


def best_in_family(
    density: Density, family: Callable[[FullRankNormal], Family], little: float, seed: int
) -> FullRank | None:
    """The normal of largest ELBO in a family, in the state of the density; None where no start has draws of finite
    density. little: as in `on_fixed_draws`.
    """
    values = cheap_values(density)
    paths = _paths(density, values, seed)
    kept: list[FullRankNormal] = []
    for path in paths:
        if all(elsewhere(path.normal, other) for other in kept):
            kept.append(path.normal)
    largest = LARGEST if density.vectorised and density.chunk >= DEAR else FEW
    found = on_fixed_draws(density.at_each, [family(each) for each in kept], little=little, largest=largest, seed=seed)
    if found is None:
        return None
    draws = draws_for(density)
    weighed = weights_of(values, found.normal, draws, seed + 3)
    gradients = paths[-1].gradients + found.gradients + draws
    return FullRank(found.normal, "fixed draws", found.converged, found.error, gradients, weighed, paths)


def _paths(density: Density, values: Scores, seed: int) -> list[Path]:
    """The best dense normal along each ascent, the best one first."""
    starts = starting_points(density, seed)
    groups = blocks(density) if len(density.first) >= FEWEST else None
    if groups is not None and (found := arrow_paths(density.at_each, starts, groups, values=values, seed=seed)):
        return [path._replace(normal=path.normal.dense()) for path in found]
    return pathfinder(density.at_each, starts, cheap_hessians(density), values=values, seed=seed)
