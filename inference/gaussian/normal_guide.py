"""A Pyro guide that is a normal of low rank, or one with groups, in unconstrained space; Pyro's own get a normal.

    u = at(e),  e ~ N(0, I),   z = T(u)      T: torch's `biject_to`, site by site

Its parameters are the tensors of the normal, so that `AutoNormalOf.mean` are the means and so on. A dense normal is
Pyro's AutoMultivariateNormal.
"""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoContinuous, AutoLowRankMultivariateNormal, AutoNormal
from pyro.infer.autoguide.initialization import init_to_median
from pyro.infer.autoguide.utils import deep_setattr
from torch import nn
from torch.distributions import Transform, constraints

from .arrow_normal import ArrowNormal, Blocks
from .full_rank_normal import Normal
from .low_rank_normal import LowRankNormal

LOW_RANK, GROUPS = ("mean", "scale", "directions", "stretch"), ("mean", "shared", "slopes", "local")


class AutoNormalOf(AutoContinuous):
    """The guide of a model that is this normal of its unconstrained latents, in the order in which it draws them.

    Its tensors have the precision of torch's default dtype.
    """

    def __init__(self, model: Any, normal: LowRankNormal | ArrowNormal, *, init_loc_fn: Any = init_to_median) -> None:
        super().__init__(model, init_loc_fn=init_loc_fn)
        for name in LOW_RANK if isinstance(normal, LowRankNormal) else GROUPS:
            setattr(self, name, nn.Parameter(getattr(normal, name).detach().to(torch.get_default_dtype())))
        if isinstance(normal, ArrowNormal):
            self.register_buffer("at_shared", normal.blocks.shared)
            self.register_buffer("at_local", normal.blocks.local)

    @property
    def normal(self) -> LowRankNormal | ArrowNormal:
        """The normal with the present parameters."""
        if hasattr(self, "stretch"):
            return LowRankNormal(self.mean, self.scale, self.directions, self.stretch)
        return ArrowNormal(self.mean, self.shared, self.slopes, self.local, Blocks(self.at_shared, self.at_local))

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        """The distribution of u (D,)."""
        noise = dist.Normal(torch.zeros_like(self.mean), 1.0).to_event(1)
        return dist.TransformedDistribution(noise, [_FromNoise(self.normal)])

    def _loc_scale(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self.mean, self.normal.sd


class _FromNoise(Transform):
    """u = at(e). The last e is kept, so that the density of a draw needs no inverse."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(self, normal: LowRankNormal | ArrowNormal) -> None:
        super().__init__(cache_size=1)
        self.normal = normal

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self.normal.at(x.reshape(-1, x.shape[-1])).reshape(x.shape)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return self.normal.back(y.reshape(-1, y.shape[-1])).reshape(y.shape)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """log |det dy/dx|, the same everywhere."""
        return self.normal.log_det.expand(x.shape[:-1])


def place_in(guide: Any, normal: Normal) -> None:
    """Makes this normal the guide's: the parameters that Pyro's AutoNormal, AutoDiagonalNormal or
    AutoLowRankMultivariateNormal has are set in place. The latents of the normal are in the order of the guide.
    """
    if isinstance(guide, AutoNormal):
        begin = 0
        sites: Any = guide.prototype_trace
        for name, _ in sites.iter_stochastic_nodes():
            loc, scale = guide._get_loc_and_scale(name)
            at = slice(begin, begin + loc.numel())
            deep_setattr(guide.locs, name, normal.mean[at].reshape(loc.shape).to(loc))
            deep_setattr(guide.scales, name, normal.sd[at].reshape(scale.shape).to(scale))
            begin += loc.numel()
        return
    with torch.no_grad():
        guide.loc.copy_(normal.mean)
    if isinstance(guide, AutoLowRankMultivariateNormal):
        assert isinstance(normal, LowRankNormal)
        own: Any = guide  # setting a PyroParam takes its value
        own.scale = normal.scale.to(guide.loc)
        W = normal.directions * normal.stretch.sqrt()
        with torch.no_grad():
            guide.cov_factor.zero_()
            guide.cov_factor[:, : W.shape[1]] = W.to(guide.loc)
    else:
        guide.scale = normal.sd.to(guide.loc)
