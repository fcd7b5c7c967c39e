"""The normal that approximates the posterior of a density, in the form that its latents ask for.

    groups that are independent given few global latents   a precision like an arrow (`arrow_normal.py`)
    up to 2,000 latents                                     a dense covariance (`full_rank.py`)
    more                                                    a diagonal and few directions (`low_rank.py`)

It is that of least KL(q || p), whose sds are too small where the posterior is skewed: importance weights say how much.
"""

import torch

from .arrow_ascent import arrow_paths
from .arrow_gradient import ARROW
from .arrow_normal import Blocks
from .blocks import blocks
from .density import Density
from .full_rank import FullRank, cheap_hessians, cheap_values, draws_for, full_rank, looked_at, starting_points
from .full_rank_normal import Scores
from .low_rank import low_rank
from .natural_gradient import natural_gradient

MOST = 2000  # latents of a dense covariance
FEWEST = 30  # latents, below which groups save no work


def approximate(density: Density, seed: int) -> FullRank:
    """The normal of a density, in whose state and precision the call runs.

    Its normal is dense up to 2,000 latents, however it was found.
    """
    starts, D, values = starting_points(density, seed), len(density.first), cheap_values(density)
    groups = blocks(density) if D >= FEWEST else None
    if groups is not None:
        found = grouped(density.at_each, starts, groups, values=values, draws=draws_for(density), seed=seed)
        if found is not None:
            return found._replace(normal=found.normal.dense()) if D <= MOST else found
    if D <= MOST:
        hessians = cheap_hessians(density)
        return full_rank(density.at_each, starts, hessians, values=values, draws=draws_for(density), seed=seed)
    few = low_rank(density.at_each, starts, seed=seed)
    how = f"{few.rank} directions beside a diagonal"
    return FullRank(few.normal, how, few.converged, few.error, few.gradients, few.weighed, [])


def grouped(
    scores: Scores, starts: torch.Tensor, groups: Blocks, *, values: Scores | None = None, draws: int, seed: int
) -> FullRank | None:
    """The normal with groups, from starting points (K, D); None if no path has a normal whose draws have a density.

    values: the scores without gradients, where they are cheaper.
    """
    paths = arrow_paths(scores, starts, groups, values=values, seed=seed)
    if not paths:
        return None
    found = natural_gradient(scores, paths[0].normal, ARROW, values=values, seed=seed + 2)
    weighed, used = looked_at(values or scores, found.normal, draws, seed + 3)
    how = f"natural gradient in {len(groups.local):,} groups"
    gradients = paths[-1].gradients + found.gradients + used
    return FullRank(found.normal, how, found.converged, found.error, gradients, weighed, paths, found.rests)
