"""Natural-gradient steps for a normal with groups: as `natural_gradient.py`, with the precision block by block.

    -E_q[d^2 log p / de_j^2], -E_q[d^2 log p / de_j de_g]: the regression of h_j on (e_j, e_g) over antithetic draws
    -E_q[d^2 log p / de_g^2]: that of h_g, less its known slopes in all e_j, on e_g

So a draw's gradient serves all groups at once, and the draws need not outnumber the latents.
"""

import math
from typing import NamedTuple

import torch

from .arrow_normal import Arrow, ArrowNormal, of_precision
from .full_rank_normal import Scores
from .natural_gradient import WIDEST, Form, kept, roughness, standard_error


class ArrowStep(NamedTuple):
    """A natural-gradient step in whitened coordinates."""

    slope: torch.Tensor  # E_q[h] (D,)
    precision: Arrow  # -E_q[d^2 log p / de^2]: the identity where the step is zero
    noise: float  # the standard error of the slope, its norm
    rough: float  # that of the precision, its norm

    @property
    def size(self) -> float:
        """The norm of the step: sds, and changes of the precision relative to itself."""
        shared, cross, local = self.precision
        off = (shared - torch.eye(len(shared), dtype=shared.dtype, device=shared.device)).square().sum()
        off = off + 2 * cross.square().sum()
        off = off + (local - torch.eye(local.shape[1], dtype=local.dtype, device=local.device)).square().sum()
        return max(self.slope.norm().item(), off.sqrt().item())


def _step(scores: Scores, normal: ArrowNormal, e: torch.Tensor) -> ArrowStep | None:
    """The step from antithetic draws, e (pairs, D); None if too few pairs have a density on both sides."""
    values, gradients = scores(normal.at(torch.cat([e, -e])))
    h = normal.whitened(gradients).unflatten(0, (2, len(e)))
    good = h.isfinite().all(-1).all(0) & values.unflatten(0, (2, len(e))).isfinite().all(0)
    G, L = len(normal.shared), normal.local.shape[1]
    if good.sum() < max(len(e) // 2, G + L + 1):
        return None
    e, (up, down) = e[good], h[:, good]
    shared, local = normal.blocks.split(e)  # (n, G), (n, J, L)
    h_shared, h_local = normal.blocks.split((up - down) / 2)
    Q, R = torch.linalg.qr(shared)
    e_rest = local - torch.einsum("ng,gjl->njl", Q, torch.einsum("ng,njl->gjl", Q, local))
    h_rest = h_local - torch.einsum("ng,gjl->njl", Q, torch.einsum("ng,njl->gjl", Q, h_local))
    gram = torch.einsum("njl,njm->jlm", e_rest, e_rest)
    slopes = torch.linalg.solve(gram, torch.einsum("njl,njm->jlm", e_rest, h_rest))  # h_m = e_l slopes_lm
    inner = torch.einsum("ng,njm->gjm", Q, h_local - torch.einsum("njl,jlm->njm", local, slopes))
    cross = torch.linalg.solve_triangular(R, inner.flatten(1), upper=True).reshape(inner.shape).permute(1, 2, 0)
    rest = h_shared - torch.einsum("njl,jlg->ng", local, cross)
    outer = torch.linalg.solve_triangular(R, Q.T @ rest, upper=True)
    precision = Arrow(-(outer + outer.T) / 2, -cross, -(slopes + slopes.mT) / 2)
    even = (up + down) / 2
    left = h_local - torch.einsum("ng,jlg->njl", shared, cross) - torch.einsum("njl,jlm->njm", local, slopes)
    rough = math.hypot(roughness(left.flatten(1), G + L), roughness(rest - shared @ outer, G))
    return ArrowStep(even.mean(0), precision, standard_error(even), rough)


def _moved(normal: ArrowNormal, step: ArrowStep, rho: float, reach: float) -> tuple[ArrowNormal, bool]:
    """(The normal after a step of length rho, whether the shift was cut); as `_moved` of `natural_gradient.py`."""
    shared, cross, local = step.precision
    eyes = [torch.eye(len(m[0]), dtype=m.dtype, device=m.device) for m in (shared[None], local)]
    new = kept(rho, step.rough)
    mixed = Arrow((1 - new) * eyes[0] + new * shared, new * cross, (1 - new) * eyes[1] + new * local)
    inner = of_precision(torch.zeros_like(normal.mean), mixed, normal.blocks, least=1 / WIDEST, most=WIDEST)
    shift = rho * (inner.at(inner.whitened(step.slope[None]))[0])
    length = min(1.0, reach / max(shift.abs().max().item(), 1e-300))
    return normal.moved(length * shift, inner), length < 1


def _average(normals: list[ArrowNormal]) -> ArrowNormal:
    """The normal whose mean and precision are the averages of those of normals that are close to each other."""
    parts = [normal.precision() for normal in normals]
    shared, cross, local = (torch.stack(list(each)).mean(0) for each in zip(*parts, strict=True))
    mean = torch.stack([normal.mean for normal in normals]).mean(0)
    return of_precision(mean, Arrow(shared, cross, local), normals[0].blocks)


def _regressors(normal: ArrowNormal) -> int:
    return len(normal.shared) + normal.local.shape[1]


def _narrower(normal: ArrowNormal) -> ArrowNormal:
    return normal._replace(shared=normal.shared / 2, local=normal.local / 2)


ARROW = Form(_regressors, _step, _moved, _narrower, _average)
