"""Whether a posterior is improper: its density does not fall where its draws end, or its numbers overflow there.

log p(data, m + 10 e) > max log p(data, u) - 4      e: a way in which the draws vary, as long as its sd
"""

from typing import Protocol

import torch

from ..distributions.divergence import parts
from ..gaussian.density import Density

SEARCHED = 100  # latents up to which ascents from dispersed points look for other modes
FAR, DROP = 10.0, 4.0  # sds from the centre at which the density must be lower, and by how many nats
WIDEST = 50.0  # sds of the log of a positive latent, and of other unconstrained values, that numbers just hold
FURTHER = (2.0, 4.0, 8.0, 16.0, 32.0)  # times FAR: a density that does not fall by DROP there either is improper
FLAT = 1e-3  # sds of the scalars; a way in which weighted draws differ less has no width of its own


class Valued(Protocol):
    """A density whose values are at hand: a chart, or all rows of data that are read chunk by chunk."""

    @property
    def density(self) -> Density: ...

    def values(self, us: torch.Tensor) -> torch.Tensor:
        """The log density at us (n, D), nats (n,)."""
        ...


def improper(chart: Valued, mean: torch.Tensor, centred: torch.Tensor, log_joints: torch.Tensor) -> str:
    """Why the posterior seems improper; "" if its density falls far away along the directions in which it is wide.

    mean (D,), centred (n, D): a normal of covariance centred^T centred. log_joints: nats (m,), that were seen. The
    directions are the principal ones in units of sds, and up to SEARCHED latents each latent alone.
    """
    density, sd = chart.density, centred.norm(dim=0)
    _, sizes, ways = torch.linalg.svd(centred / sd, full_matrices=False)
    sizes, ways = sizes[sizes > FLAT], ways[sizes > FLAT]
    if len(mean) <= SEARCHED:  # two latents of the same width make two directions of both, though one may be flat
        sizes, ways = torch.cat([sizes, torch.ones_like(sd)]), torch.cat([ways, torch.eye(len(mean)).to(mean)])
    reach = FAR * sizes[:, None] * ways * sd  # FAR sds of each way itself
    points = torch.cat([mean[None], mean + reach, mean - reach])
    values = chart.values(points)
    seen = torch.cat([log_joints, values[:1]])  # draws of D latents lie D / 2 nats below their centre
    highest = seen.nan_to_num(nan=-torch.inf).max()
    flat = (highest - values[1:] < DROP).nonzero()[:, 0]
    flat = flat[~_falls(chart, mean, points[1:][flat] - mean, torch.maximum(highest, values[1:][flat]))]
    if len(flat):
        way = ways[int(flat[0]) % len(ways)]
        names = [n for n, shape in zip(density.names, density.shapes, strict=True) for _ in range(shape.numel())]
        most = sorted({names[i] for i in (way.abs() > 0.5 * way.abs().max()).nonzero()[:, 0].tolist()})
        where = ", ".join(map(repr, most))
        return (
            f"the density does not fall along {where}, even {FAR:,.0f} sds away: the posterior is improper, or nearly "
            f"flat there"
        )
    for name, width in zip(density.names, sd.split([shape.numel() for shape in density.shapes]), strict=True):
        if (width > WIDEST).any() and parts(density.transforms[name]):
            return (
                f"{name!r} varies by a factor of more than e^{WIDEST:.0f}, up to where its numbers overflow: the "
                f"posterior is improper, or nearly flat"
            )
    return ""


def _falls(chart: Valued, mean: torch.Tensor, away: torch.Tensor, tops: torch.Tensor) -> torch.Tensor:
    """Whether the density falls still further away from the mean, along away (k, D), from the highest value there (k,).

    A normal that was fitted to a part of the posterior, as of a funnel, lies beside its mass.
    """
    if not len(away):
        return tops > 0
    lengths = torch.tensor(FURTHER, dtype=away.dtype, device=away.device)
    points = mean + lengths[:, None, None] * away  # (m, k, D)
    heights = chart.values(points.flatten(0, 1)).reshape(points.shape[:2]).nan_to_num(nan=torch.inf, posinf=torch.inf)
    known = heights < torch.inf  # before numbers overflow
    last = torch.where(known, lengths[:, None], 0.0).argmax(0, keepdim=True)
    ends = torch.where(known.any(0), heights.gather(0, last)[0], torch.inf)
    return torch.maximum(tops, torch.where(known, heights, -torch.inf).amax(0)) - ends >= DROP
