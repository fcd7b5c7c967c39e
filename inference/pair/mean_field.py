"""Mean field: each latent a normal of its own in unconstrained space, drawn under the name that the model gives it.

    z = T(u),   u ~ N(loc, diag(scale^2))      T: torch's `biject_to` the support, the identity for a real latent

Pyro's AutoNormal has the same parameters and the same distribution, but draws each latent as a point (Delta) behind an
auxiliary site. A real latent is a Normal here, so that its KL from the prior and noise for each row are known of it.
"""

from contextlib import ExitStack
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoNormal
from torch.distributions import Transform, biject_to
from torch.distributions.transforms import ExpTransform, IndependentTransform

from ..distributions.divergence import parts


class MeanField(AutoNormal):
    """An AutoNormal whose sites are the model's: no auxiliary site, no point."""

    def __init__(self, model: Any, *, init_loc_fn: Any) -> None:
        super().__init__(model, init_loc_fn=init_loc_fn)
        self._pyro_name = "AutoNormal"  # names its parameters as Pyro does: AutoNormal.locs.z, AutoNormal.scales.z

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """One draw, {site: value}."""
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        plates, drawn = self._create_plates(*args, **kwargs), {}
        for name, site in self.prototype_trace.iter_stochastic_nodes():
            with ExitStack() as stack:
                for frame in site["cond_indep_stack"]:
                    if frame.vectorized:
                        stack.enter_context(plates[frame.name])
                loc, scale = self._get_loc_and_scale(name)
                transform = biject_to(site["fn"].support)
                drawn[name] = pyro.sample(name, mapped(loc, scale, transform, site["fn"].event_dim))
        return drawn


def mapped(loc: torch.Tensor, scale: torch.Tensor, transform: Transform, event_dim: int) -> Any:
    """The distribution of T(u), u ~ N(loc, diag(scale^2)), with so many event dimensions.

    T keeps the u of its last value, so that log q of a draw needs no inverse, which loses digits near a border.
    """
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    pieces, normal = parts(transform), dist.Normal(loc, scale)
    if not pieces:
        return normal.to_event(event_dim)
    if len(pieces) == 1 and isinstance(pieces[0], ExpTransform):
        return dist.LogNormal(loc, scale).to_event(event_dim)
    try:
        transform = transform.with_cache()
    except NotImplementedError:
        pass
    fn = dist.TransformedDistribution(normal.to_event(transform.domain.event_dim), [transform])
    return fn.to_event(event_dim - len(fn.event_shape))
