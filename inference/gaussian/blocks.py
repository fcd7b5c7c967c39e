"""Which latents of a model are independent groups given the others: the structure of its Hessian, found by gradients.

    u' = u where latents of some groups have moved:   d log p / du' = d log p / du for the latents of all other groups

Groups are the entries of one dimension of a site, or of several sites that have it in common: the members of a plate.
Each pair of groups is told apart by moving the groups whose number has bit b, for each b: 2 log2(J) gradients suffice.
The largest set of groups is taken; all other latents are global. Of crossed groups (rows and columns) one is local.
"""

import torch

from .arrow_normal import Blocks
from .density import Density
from .full_rank_normal import Scores, generator

FEWEST = 8  # groups, below which they are no structure
MOST = 500  # global latents
REACH = 0.5  # standard deviation of a move
SAME = 1e-9  # of the largest gradient of the latents in groups: rounding


def blocks(density: Density) -> Blocks | None:
    """The groups of a density, in whose state the call runs; None if none save work."""
    D, device = len(density.first), density.first.device
    places, begin = {}, 0
    for name, shape in zip(density.names, density.shapes, strict=True):
        places[name] = torch.arange(begin, begin + shape.numel(), device=device).reshape(shape)
        begin += shape.numel()
    candidates: dict[int, list[torch.Tensor]] = {}  # {J: indices (J, L) of each site with a dimension of this size}
    for at in places.values():
        for dim, size in enumerate(at.shape):
            if size >= FEWEST:
                candidates.setdefault(size, []).append(at.movedim(dim, 0).reshape(size, -1))
    for _, sites in sorted(candidates.items(), key=lambda item: -sum(site.numel() for site in item[1])):
        local = _independent(density.at_each, density.first, sites)
        if local is not None:
            is_local = torch.zeros(D, dtype=torch.bool, device=device)
            is_local[local.flatten()] = True
            shared = (~is_local).nonzero()[:, 0]
            if len(shared) <= MOST and len(shared) + local.shape[1] < D / 2:
                return Blocks(shared, local)
    return None


def _independent(scores: Scores, u: torch.Tensor, sites: list[torch.Tensor]) -> torch.Tensor | None:
    """Indices (J, L) of the sites whose groups are independent: of all, or of the largest that are so together."""
    if _are_independent(scores, u, torch.cat(sites, 1)):
        return torch.cat(sites, 1)
    found: torch.Tensor | None = None
    for site in sorted(sites, key=lambda site: -site.shape[1]) if len(sites) > 1 else []:
        tried = site if found is None else torch.cat([found, site], 1)
        if len(tried.unique()) == tried.numel() and _are_independent(scores, u, tried):
            found = tried
    return found


def _are_independent(scores: Scores, u: torch.Tensor, local: torch.Tensor) -> bool:
    """Whether moves of some groups (J, L) leave the gradients of the others as they are."""
    if len(local.unique()) < local.numel():
        return False
    J, noise = len(local), generator(0, u)
    numbers = torch.arange(J, device=u.device)
    moving = torch.stack([(numbers >> bit) & 1 == side for bit in range((J - 1).bit_length()) for side in (0, 1)])
    moved = u.repeat(1 + len(moving), 1)
    moves = REACH * torch.randn(len(moving), *local.shape, generator=noise, dtype=u.dtype, device=u.device)
    moved[1:, local] = moved[1:, local] + moving[:, :, None] * moves
    _, gradients = scores(moved)
    before, after = gradients[0, local], gradients[1:, local]
    slack = (1e4 if u.dtype == torch.float32 else 1.0) * SAME * gradients[:, local].abs().amax()
    same = ((after - before).abs() <= slack).all(-1)
    return bool((same | moving).all())
