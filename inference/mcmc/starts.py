"""Where chains start, and their first mass matrix: from normals that are fitted on the way up from dispersed points.

    u_c ~ q_c,   q_c the best normal on the ascent from the dispersed point s_c;   F F^T = Sigma of batch and match

Chains stand in different modes where the ascents find several, so that R-hat sees them: a mode counts if its normal
holds more than e^-20 of the evidence of the best. Source: Zhang, Carpenter, Gelman and Vehtari 2022.
"""

from typing import NamedTuple

import torch

from ..gaussian.batch_and_match import batch_and_match
from ..gaussian.density import Density
from ..gaussian.full_rank import cheap_hessians, dispersed
from ..gaussian.full_rank_normal import elsewhere, generator, standard
from ..gaussian.starts import Path, pathfinder

MOST = 500  # latents up to which normals are fitted
PATHS = 8  # ascents, at least
NEGLIGIBLE = 20.0  # nats by which the evidence of a mode is too small to matter
ITERATIONS = 60  # of batch and match


class Starts(NamedTuple):
    """The first points of the chains, and the factor F of their first mass matrix (F F^T)^-1."""

    us: torch.Tensor  # (chains, D)
    factor: torch.Tensor  # (D, D), or its diagonal (D,)


def starts(density: Density, chains: int, seed: int) -> Starts:
    """Starting points and mass matrix; dispersed points and the identity for more than 500 latents."""
    D = len(density.first)
    if D > MOST:
        return Starts(dispersed(density, chains), density.first.new_ones(D))
    points = dispersed(density, max(chains, PATHS))
    paths = pathfinder(density.at_each, points, cheap_hessians(density), seed=seed)
    fitted = batch_and_match(density.at_each, paths[0].normal, iterations=ITERATIONS, seed=seed + 1).normal
    if not fitted.factor.isfinite().all():
        fitted = paths[0].normal
    chosen = [path.normal if elsewhere(path.normal, fitted) else fitted for path in spread(paths, chains)]
    e = standard(chains, fitted, generator(seed + 2, density.first))
    us = torch.stack([normal.at(e[c : c + 1])[0] for c, normal in enumerate(chosen)])
    means = torch.stack([normal.mean for normal in chosen])
    for tried in (us, means):
        values, gradients = density.at_each(tried)
        good = values.isfinite() & gradients.isfinite().all(-1)
        us = torch.where(good[:, None], tried, points[:chains]) if tried is means else us
        if good.all():
            return Starts(tried, fitted.factor)
    return Starts(us, fitted.factor)


def spread(paths: list[Path], chains: int) -> list[Path]:
    """So many of the paths, repeated if there are too few: one of each mode that matters, then the best ones."""
    modes: list[Path] = []
    for path in paths:
        if path.elbo > paths[0].elbo - NEGLIGIBLE and all(elsewhere(path.normal, other.normal) for other in modes):
            modes.append(path)
    ordered = [*modes, *(path for path in paths if not any(path is mode for mode in modes))]
    near = [path for path in ordered if path.elbo > paths[0].elbo - NEGLIGIBLE]
    return [near[c % len(near)] for c in range(chains)]
