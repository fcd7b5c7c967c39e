"""Where a normal with groups starts: the best of many normals along several ascents by Newton's steps.

    q_k = N(u_k + B_k g_k, B_k) at every point u_k of an ascent,   B_k = |-d^2 log p / du^2|^-1, which has groups

The Hessian comes from differences of gradients along G + L vectors: a latent of each group moves at once (Curtis,
Powell and Reid 1974). Otherwise as `starts.py`.
"""

import math
from collections.abc import Iterator

import torch

from .arrow_normal import Arrow, ArrowNormal, Blocks, of_precision
from .ascent import ARMIJO, DONE
from .full_rank_normal import Counted, Scores, generator, standard
from .starts import DRAWS, FINAL, STALE, Path, representable

STEPS = 150  # of an ascent
LONG, SHORT = 2.0 ** torch.arange(-2, 4), 2.0 ** torch.arange(-20, -2)  # lengths of a step that are tried together


def arrow_paths(
    scores: Scores, starts: torch.Tensor, blocks: Blocks, *, values: Scores | None = None, seed: int = 0
) -> list[Path]:
    """The best normal on each path from the starting points (K, D), the path of the largest ELBO first.

    values: the scores without gradients, where they are cheaper.
    """
    noise, counted, valued, paths = generator(seed, starts), Counted(scores), Counted(values or scores), []
    for start in starts:
        best, elbo, improved = None, -math.inf, 0
        end = start
        for step, (end, normal) in enumerate(_ascend(counted, valued, start, blocks)):  # noqa: B007
            value = _elbo(valued, normal, DRAWS, noise)
            if value > elbo and representable(normal.mean, normal.sd, _roots(normal)):
                best, elbo, improved = normal, value, step
            if step - improved > STALE // 2 or step > STEPS:
                break
        if best is not None:
            elbo = _elbo(valued, best, FINAL, noise)
            paths.append(Path(best, elbo, end, counted.points + valued.points))
    return sorted(paths, key=lambda path: -path.elbo)


def curved(scores: Scores, u: torch.Tensor, blocks: Blocks) -> tuple[torch.Tensor, torch.Tensor, Arrow]:
    """(log p in nats, its gradient (D,), -d^2 log p / du^2) at u (D,)."""
    G, L = len(blocks.shared), blocks.local.shape[1]
    reach = (1e-2 if u.dtype == torch.float32 else 1e-5) * (1 + u.abs())
    steps = u.new_zeros(G + L, len(u))
    steps[torch.arange(G), blocks.shared] = reach[blocks.shared]
    for i in range(L):
        steps[G + i, blocks.local[:, i]] = reach[blocks.local[:, i]]
    values, gradients = scores(torch.cat([u[None], u + steps, u - steps]))
    up, down = gradients[1:].chunk(2)
    shared, local = blocks.split((down - up) / 2)  # a row: -d^2 log p / du^2 times a step
    inner = shared[:G] / reach[blocks.shared][:, None]
    cross = (local[:G] / reach[blocks.shared][:, None, None]).permute(1, 2, 0)
    outer = local[G:].permute(1, 2, 0) / reach[blocks.local][:, None, :]
    return values[0], gradients[0], Arrow((inner + inner.T) / 2, cross, (outer + outer.mT) / 2)


def _ascend(
    scores: Scores, values_at: Scores, u: torch.Tensor, blocks: Blocks
) -> Iterator[tuple[torch.Tensor, ArrowNormal]]:
    """Yields (point, normal there) at the start and after each step."""
    while True:
        value, gradient, precision = curved(scores, u, blocks)
        if not (gradient.isfinite().all() and all(part.isfinite().all() for part in precision)):
            return
        normal = of_precision(u, precision, blocks)
        h = normal.whitened(gradient[None])
        after = normal.at(h)[0]
        yield u, normal._replace(mean=after)
        if h.square().sum() / 2 < DONE:
            return
        for lengths in (LONG.to(u), SHORT.to(u)):
            tried = u + lengths[:, None] * (after - u)
            values = values_at(tried)[0].nan_to_num(nan=-torch.inf)
            good = values >= value + ARMIJO * lengths * h.square().sum()
            if good.any():
                break
        else:
            return
        u = tried[torch.where(good, values, -torch.inf).argmax()]


def _roots(normal: ArrowNormal) -> torch.Tensor:
    """Roots of the diagonal of the precision (D,)."""
    shared, _, local = normal.precision()
    diagonals = normal.blocks.join(shared.diagonal()[None], local.diagonal(dim1=1, dim2=2)[None])
    return diagonals[0].sqrt()


def _elbo(scores: Scores, normal: ArrowNormal, n: int, noise: torch.Generator) -> float:
    """E_q[log p - log q], nats; -inf where it is not finite."""
    e = standard(n, normal, noise)
    value = (scores(normal.at(e))[0] - normal.log_prob_at(e)).mean().item()
    return value if math.isfinite(value) else -math.inf
