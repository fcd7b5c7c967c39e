"""Mean field: each latent a normal of its own in unconstrained space, drawn under the name that the model gives it.

    z = T(u),   u ~ N(loc, diag(scale^2))      T: torch's `biject_to` the support, the identity for a real latent

Pyro's AutoNormal has the same parameters and the same distribution, but draws each latent as a point (Delta) behind an
auxiliary site. A real latent is a Normal here, so that its KL from the prior and noise for each row are known of it.

The weights of a network start apart from each other and nearly without noise: all zero they would be a saddle point,
where the units of a layer are alike, and wide noise hides the gradients that lead away from it.
"""

from contextlib import ExitStack
from operator import attrgetter
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoNormal
from pyro.infer.autoguide.utils import deep_setattr
from pyro.nn import PyroParam
from torch.distributions import Transform, biject_to
from torch.distributions.transforms import ExpTransform, IndependentTransform

from ..distributions.divergence import parts

NARROW = 0.01  # the sd that the latents of a network start with


class MeanField(AutoNormal):
    """An AutoNormal whose sites are the model's: no auxiliary site, no point."""

    def __init__(self, model: Any, *, init_loc_fn: Any) -> None:
        super().__init__(model, init_loc_fn=init_loc_fn)
        self._pyro_name = "AutoNormal"  # names its parameters as Pyro does: AutoNormal.locs.z, AutoNormal.scales.z

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        prototype: Any = self.prototype_trace
        sites = dict(prototype.iter_stochastic_nodes())
        if sum(map(_is_matrix, sites.values())) < 2:  # one layer has no units that could be alike
            return
        for name, site in sites.items():
            loc, scale = (value.detach().clone() for value in self._get_loc_and_scale(name))
            if _is_matrix(site) and not loc.any():
                loc.normal_(0.0, max(loc.shape[0], loc[0].numel()) ** -0.5)
            dims = self._event_dims[name]
            deep_setattr(self.locs, name, PyroParam(loc, constraints.real, dims))
            narrow = torch.full_like(scale, NARROW)
            deep_setattr(self.scales, name, PyroParam(narrow, self.scale_constraint, dims))

    def _create_plates(self, *args: Any, **kwargs: Any) -> dict[str, pyro.plate]:
        """The plates of the model, over rows as large as the rows of the parameters: a batch has its own of a table."""
        prototype: Any = self.prototype_trace
        sizes: dict[str, int] = {}
        for name, site in prototype.iter_stochastic_nodes():
            if here := [frame for frame in site["cond_indep_stack"] if frame.vectorized]:
                shape = attrgetter(name)(self.locs).shape  # its scale has the same
                sizes |= {frame.name: shape[frame.dim - self._event_dims[name]] for frame in here}
        self.plates = {}
        for name, frame in sorted(self._prototype_frames.items()):
            full = frame.full_size or frame.size
            few = {"subsample_size": frame.size} if sizes[name] == full else {}
            self.plates[name] = pyro.plate(name, sizes[name], dim=frame.dim, **few)
        return self.plates

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """One draw, {site: value}."""
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        plates, drawn = self._create_plates(*args, **kwargs), {}
        prototype: Any = self.prototype_trace
        for name, site in prototype.iter_stochastic_nodes():
            with ExitStack() as stack:
                for frame in site["cond_indep_stack"]:
                    if frame.vectorized:
                        stack.enter_context(plates[frame.name])
                loc, scale = self._get_loc_and_scale(name)
                transform = biject_to(site["fn"].support)
                drawn[name] = pyro.sample(name, mapped(loc, scale, transform, site["fn"].event_dim))
        return drawn


def _is_matrix(site: Any) -> bool:
    """Whether a latent is real and has two event dimensions or more, as the weights of a layer."""
    support = site["fn"].support
    return site["fn"].event_dim >= 2 and getattr(support, "base_constraint", support) is constraints.real


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
