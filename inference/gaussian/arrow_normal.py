"""A normal distribution of global latents and of groups that are independent given them: no dense matrix.

    u_g = mu_g + F e_g,   u_j = mu_j + W_j (u_g - mu_g) + F_j e_j     e ~ N(0, I),   g: the G global latents
                                                                      j: the L latents of group j of J
The precision has the shape of an arrow: blocks (g, g), (j, g) and (j, j) alone. Where the density of a model has this
structure, so has the normal of least KL(q || p), since its precision is -E_q[d^2 log p / du^2]. Memory and work of a
draw are O(G^2 + J L (L + G)). Source: Tan and Nott 2018, for the sparse precision; Opper and Archambeau 2009, eq. 10.
"""

import math
from typing import NamedTuple

import torch

from .full_rank_normal import FullRankNormal


class Blocks(NamedTuple):
    """Which of D latents are global, and which belong to each group."""

    shared: torch.Tensor  # (G,), indices
    local: torch.Tensor  # (J, L), indices

    def split(self, us: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """((n, G), (n, J, L)) of us (n, D)."""
        return us[:, self.shared], us[:, self.local]

    def join(self, shared: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """us (n, D) of ((n, G), (n, J, L))."""
        places = torch.cat([self.shared, self.local.flatten()])
        return torch.cat([shared, local.flatten(1)], 1)[:, places.argsort()]


class Arrow(NamedTuple):
    """A symmetric matrix (D, D) with blocks (g, g), (j, g) and (j, j) alone."""

    shared: torch.Tensor  # (G, G)
    cross: torch.Tensor  # (J, L, G)
    local: torch.Tensor  # (J, L, L)


class ArrowNormal(NamedTuple):
    """The normal; `blocks` says where its parts are in u."""

    mean: torch.Tensor  # (D,)
    shared: torch.Tensor  # F (G, G)
    slopes: torch.Tensor  # W (J, L, G)
    local: torch.Tensor  # F_j (J, L, L)
    blocks: Blocks

    @property
    def sd(self) -> torch.Tensor:
        """The sds of the coordinates of u (D,)."""
        through = (self.slopes @ self.shared).square().sum(-1)
        variances = self.blocks.join(self.shared.square().sum(-1)[None], (through + self.local.square().sum(-1))[None])
        return variances[0].sqrt()

    @property
    def log_det(self) -> torch.Tensor:
        """log |det Sigma|^(1/2), a scalar."""
        return torch.linalg.slogdet(self.shared).logabsdet + torch.linalg.slogdet(self.local).logabsdet.sum()

    def at(self, e: torch.Tensor) -> torch.Tensor:
        """u (n, D) for e (n, D), whose entries are at the places of those of u."""
        shared, local = self.blocks.split(e)
        shared = shared @ self.shared.T
        local = torch.einsum("jlm,njm->njl", self.local, local) + torch.einsum("jlg,ng->njl", self.slopes, shared)
        return self.mean + self.blocks.join(shared, local)

    def back(self, us: torch.Tensor) -> torch.Tensor:
        """e (n, D) of us (n, D): the inverse of `at`."""
        shared, local = self.blocks.split(us - self.mean)
        local = local - torch.einsum("jlg,ng->njl", self.slopes, shared)
        shared = shared @ torch.linalg.inv(self.shared).T
        return self.blocks.join(shared, torch.einsum("jlm,njm->njl", torch.linalg.inv(self.local), local))

    def whitened(self, gradients: torch.Tensor) -> torch.Tensor:
        """h = F^T g (n, D) of the gradients g (n, D) of a log density, F the factor in u = mu + F e."""
        shared, local = self.blocks.split(gradients)
        shared = (shared + torch.einsum("njl,jlg->ng", local, self.slopes)) @ self.shared
        return self.blocks.join(shared, torch.einsum("njl,jlm->njm", local, self.local))

    def log_prob_at(self, e: torch.Tensor) -> torch.Tensor:
        """The log density of u = at(e) in nats (n,)."""
        return -e.square().sum(-1) / 2 - len(self.mean) * math.log(2 * math.pi) / 2 - self.log_det

    def moved(self, shift: torch.Tensor, inner: "ArrowNormal") -> "ArrowNormal":
        """The normal that is `inner`, of mean `shift` (D,), in the whitened coordinates."""
        mean = self.at(shift[None])[0]
        shared = self.shared @ inner.shared
        slopes = self.local @ inner.slopes @ torch.linalg.inv(self.shared) + self.slopes
        return ArrowNormal(mean, shared, slopes, self.local @ inner.local, self.blocks)

    def dense(self) -> FullRankNormal:
        """The same normal with a dense factor."""
        eye = torch.eye(len(self.mean), dtype=self.mean.dtype, device=self.mean.device)
        return FullRankNormal(self.mean, (self.at(eye) - self.mean).T)

    def precision(self) -> Arrow:
        """Sigma^-1."""
        inverse = torch.linalg.inv(self.local)
        local = inverse.mT @ inverse
        cross = -local @ self.slopes
        inner = torch.linalg.inv(self.shared)
        return Arrow(inner.T @ inner - torch.einsum("jlg,jlh->gh", cross, self.slopes), cross, local)


def of_precision(
    mean: torch.Tensor, precision: Arrow, blocks: Blocks, *, least: float = 0.0, most: float = math.inf
) -> ArrowNormal:
    """N(mean, precision^-1). Eigenvalues of the blocks (j, j), and of what is left of (g, g) when the groups are
    integrated out, are taken without their signs and kept between `least` and `most`.
    """
    local = _root(precision.local, least, most)
    slopes = -local @ (local.mT @ precision.cross)
    left = precision.shared + torch.einsum("jlg,jlh->gh", precision.cross, slopes)
    return ArrowNormal(mean, _root(left, least, most), slopes, local, blocks)


def _root(matrices: torch.Tensor, least: float, most: float) -> torch.Tensor:
    """F (..., n, n) with F F^T = |M|^-1, for symmetric M."""
    scale = torch.diagonal(matrices, dim1=-2, dim2=-1).abs().clamp(min=1e-300).rsqrt()
    if least or most < math.inf:
        scale = torch.ones_like(scale)
    scaled = scale[..., :, None] * (matrices + matrices.mT) / 2 * scale[..., None, :]
    values, Q = torch.linalg.eigh(scaled)
    values = values.abs().clamp(min=max(least, 1e-12), max=most)
    return scale[..., :, None] * (Q * values.rsqrt()[..., None, :])
