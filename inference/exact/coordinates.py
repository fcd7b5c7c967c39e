"""Unconstrained coordinates: the continuous latents of a model as one vector x.

x in R^D,    z = T(x),    log p(x) = log p(z) + log |det dT/dx|      T: torch's `biject_to`, site by site
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch.distributions import Transform, biject_to, constraints

from ..distributions.unwrap import kind
from ..runtime.sites import Site
from .no_closed_form import NoClosedForm

Values = Mapping[str, torch.Tensor]
REAL, POSITIVE, INTERVAL, ABOVE, SIMPLEX = "real", "positive", "interval", "above", "simplex"
# the largest |x| at which T keeps its precision and squares stay finite
FARTHEST = {REAL: 1e60, POSITIVE: 40.0, ABOVE: 20.0, INTERVAL: 30.0, SIMPLEX: 28.0}
LEAST = 1e-13  # the smallest entry of a point on the simplex


class Variable(NamedTuple):
    """A continuous site: its slice of x, and the transform from that slice to its value."""

    name: str
    support: str  # REAL, POSITIVE, INTERVAL, ABOVE or SIMPLEX
    low: float  # lower bound of the support
    high: float
    transform: Transform  # T, from coordinates to the value
    shape: torch.Size  # of its value
    event_dim: int  # event dimensions of the value
    free: torch.Size  # shape of its coordinates: on the simplex the last dimension is one shorter
    start: int
    plates: dict[str, int]  # {plate: its dimension of the value, counted from the left}

    @property
    def part(self) -> slice:
        return slice(self.start, self.start + self.free.numel())


class Coordinates(NamedTuple):
    """The variables in the order of the model; x holds them one after another."""

    variables: dict[str, Variable]

    @property
    def size(self) -> int:
        return sum(v.free.numel() for v in self.variables.values())

    def values(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """z = T(x)."""
        return {name: v.transform(x[v.part].reshape(v.free)) for name, v in self.variables.items()}

    def log_jacobian(self, x: torch.Tensor) -> torch.Tensor:
        """log |det dT/dx|, a scalar."""
        total = x.new_zeros(())
        for v in self.variables.values():
            if v.support != REAL:
                u = x[v.part].reshape(v.free)
                total = total + v.transform.log_abs_det_jacobian(u, v.transform(u)).sum()
        return total

    def flat(self, values: Values) -> torch.Tensor:
        """x = T^-1(z), clamped to where T keeps its precision: at the edges of a support T^-1 is infinite."""
        parts = [v.transform.inv(values[name].double()).reshape(-1) for name, v in self.variables.items()]
        if not parts:
            return torch.zeros(0, dtype=torch.float64)
        return self.inside(torch.cat(parts))

    def flat_of(self, values: Values, names: Iterable[str]) -> torch.Tensor:
        """x with T^-1(z) in the coordinates of these sites, zero in all others."""
        parts, at = [], 0  # put together rather than written into: `vmap` refuses that
        for v in sorted((self.variables[name] for name in names), key=lambda v: v.start):
            parts += [torch.zeros(v.start - at, dtype=torch.float64), v.transform.inv(values[v.name]).reshape(-1)]
            at = v.part.stop
        return torch.cat([*parts, torch.zeros(self.size - at, dtype=torch.float64)])

    def only(self, names: Iterable[str]) -> "Coordinates":
        """The variables of these sites, with their places in x unchanged."""
        return Coordinates({name: self.variables[name] for name in names})

    def replaced(self, x: torch.Tensor, names: Iterable[str], other: torch.Tensor) -> torch.Tensor:
        """x with the coordinates of these sites taken from another point."""
        point = x.clone()
        for name in names:
            part = self.variables[name].part
            point[part] = other[part]
        return point

    def inside(self, x: torch.Tensor) -> torch.Tensor:
        """x with each coordinate clamped to where T keeps its precision."""
        far = torch.full_like(x, torch.inf)
        for v in self.variables.values():
            far[v.part] = FARTHEST.get(v.support, torch.inf)
        x = torch.nan_to_num(x, nan=0.0, posinf=1e300, neginf=-1e300).clamp(-far, far)
        for v in self.variables.values():
            if v.support == SIMPLEX:
                z = v.transform(x[v.part].reshape(v.free)).clamp(min=LEAST)
                x[v.part] = v.transform.inv(z / z.sum(-1, keepdim=True)).reshape(-1)
        return x


def coordinates_of(sites: Mapping[str, Site]) -> Coordinates:
    """The coordinates of these latent sites of a trace. Raises NoClosedForm for a support without a known family."""
    variables: dict[str, Variable] = {}
    start = 0
    for name, site in sites.items():
        fn = site["fn"]
        base = _base(fn.support)
        support, low, high = _classified(name, base, kind(fn))
        shape = torch.Size(fn.batch_shape + fn.event_shape)
        free = (*shape[:-1], shape[-1] - 1) if support == SIMPLEX else shape
        frames = [f for f in site["cond_indep_stack"] if f.vectorized and f.dim is not None]
        plates = {f.name: len(fn.batch_shape) + f.dim for f in frames}
        variables[name] = Variable(
            name, support, low, high, biject_to(base), shape, len(fn.event_shape), torch.Size(free), start, plates
        )
        start += variables[name].free.numel()
    return Coordinates(variables)


def _base(support: Any) -> Any:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _classified(name: str, support: Any, family: str) -> tuple[str, float, float]:
    """(the kind of support, its lower bound, its upper bound)."""
    low, high = (getattr(support, end, None) for end in ("lower_bound", "upper_bound"))
    if support is constraints.real:
        return REAL, -torch.inf, torch.inf
    if type(support) is type(constraints.simplex):
        return SIMPLEX, 0.0, 1.0
    ends = [torch.as_tensor(end) for end in (low, high) if end is not None]
    if not ends or getattr(support, "is_discrete", False) or any((end != end.flatten()[0]).any() for end in ends):
        raise NoClosedForm(
            f"site {name!r}: {family} has the support {support}, for which credo knows no conjugate family; supported "
            f"are real, positive, an interval, the simplex and finite sets"
        )
    if high is not None:
        if low is None:
            raise NoClosedForm(
                f"site {name!r}: {family} has the support below {high}, for which credo knows no conjugate family; "
                f"sample its negative instead"
            )
        return INTERVAL, float(ends[0].flatten()[0]), float(ends[1].flatten()[0])
    bound = float(ends[0].flatten()[0])
    return (POSITIVE if bound == 0 else ABOVE), bound, torch.inf
