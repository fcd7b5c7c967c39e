"""What a closed form is sought for: the log joint density, its coordinates, and points where it is evaluated."""

from typing import NamedTuple

import torch

from .coordinates import ABOVE, POSITIVE, REAL, Coordinates
from .log_joint import LogJoint


class Problem(NamedTuple):
    """The posterior of the continuous latents of a model, in unconstrained coordinates x (D,)."""

    log_joint: LogJoint
    coordinates: Coordinates
    starts: list[torch.Tensor]  # draws of the prior, each x (D,)
    rows: int  # of the data: bounds the memory of batched derivatives

    def log_density(self, x: torch.Tensor) -> torch.Tensor:
        """log p(data, x) = log p(data, T(x)) + log |det dT/dx|, nats, a scalar."""
        return self.log_joint(self.coordinates.values(x)).total + self.coordinates.log_jacobian(x)

    def scattered(self, width: float = 1.0) -> torch.Tensor:
        """A random point with independent coordinates: real ones spread as the prior does, times `width`; the others
        spread over several units.
        """
        prior = torch.stack(self.starts)
        spread = (prior - prior.mean(0)).abs().amax(0).clamp(min=1e-12)
        x = prior.mean(0) + width * spread * torch.randn_like(spread)
        for v in self.coordinates.variables.values():
            if v.support != REAL:
                x[v.part] = {POSITIVE: 4.0, ABOVE: 2.0}.get(v.support, 2.5) * (2 * torch.rand(v.free.numel()) - 1)
        return self.coordinates.inside(x)

    def varied(self, x: torch.Tensor, sites: tuple[str, ...]) -> torch.Tensor:
        """x with the coordinates of these sites at a random point."""
        return self.coordinates.replaced(x, sites, self.scattered())
