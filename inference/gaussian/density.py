"""The log joint density of a model on its data, as a function of one unconstrained vector.

    log p(data, u) = log p(data, T(u)) + log |det dT/du|      u (D,) in R^D, T: torch's `biject_to`, site by site

Finite latents are summed out, so that the density is smooth wherever the model is. NUTS walks on this density, and
Gaussian approximations are fitted to it.
"""

import math
import warnings
from contextlib import nullcontext, suppress
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch.distributions import biject_to

from ..distributions.finite import values_of
from ..distributions.unwrap import kind
from ..exact.derivatives import hessian_products
from ..inputs.arguments import arguments
from ..pair.backward import determined
from ..pair.followers import without_masks
from ..pair.pair import Program, Summed
from ..pair.summed_out import eliminated, enumerating
from ..preflight.given import checking_model
from ..runtime.defaults import Widened, default_dtype, of_dtypes
from ..runtime.sites import Site, deterministic, is_index, latent
from ..runtime.state import State, entered, new_state, snapshot
from ..runtime.vectorise import NewTensors, at_once, draw_each, is_out_of_memory
from .requirements import refuse_unsampleable, start

WIDE, TRIES = 2.0, 100  # starting points are uniform on (-WIDE, WIDE), as in Stan; at most TRIES until one is finite
MOST = 2**26  # numbers of a deterministic site in all draws
LIVE = 8  # tensors as large as the largest one that a gradient keeps until it is done
Scored = tuple[torch.Tensor, torch.Tensor]  # (log density in nats, its gradient)


class Density(NamedTuple):
    """log p(data, u) of a model on its data, nats; everything runs in the state and precision that it was made in."""

    model: Program
    data: tuple[Any, ...]
    summed: Summed | None
    names: tuple[str, ...]  # of the continuous latents, in the order of the model
    shapes: tuple[torch.Size, ...]  # of their unconstrained values
    transforms: dict[str, Any]  # T, unconstrained to constrained
    values: dict[str, int]  # {site: K} of all latents in the order of the model, 0 unless it is on 0, ..., K-1
    follow: dict[str, int]  # {finite latent that is summed out, or deterministic site: how many numbers it has}
    first: torch.Tensor  # u (D,), a point of positive density
    vectorised: bool = False  # whether `vmap` takes the gradients at many points at once
    chunk: int = 1  # points whose gradients fit into memory at once
    writes: bool = False  # whether `vmap` takes the model only with tensors of each point's own to write into

    def log_joint(self, u: torch.Tensor) -> torch.Tensor:
        """log p(data, u) at u (D,), a scalar, differentiable; `vmap` can batch it where `vectorised`."""
        values, total = {}, u.new_zeros(())
        for name, x in self._parts(u).items():
            transform = self.transforms[name]
            values[name] = transform(x)
            total = total + transform.log_abs_det_jacobian(x, values[name]).sum()
        return total + self.log_prob(values)

    def log_prob(self, values: dict[str, torch.Tensor]) -> torch.Tensor:
        """log p(data, z) at these latents in their own spaces, a scalar; finite latents are summed out."""
        program = self.model if self.summed is None else enumerating(self.model, self.summed)
        with NewTensors(next(iter(values.values()))) if self.writes else nullcontext(), Widened():
            trace = poutine.trace(poutine.condition(program, data=values)).get_trace(*self.data)
            trace.compute_log_prob(site_filter=lambda name, site: not is_index(site))
        groups = [] if self.summed is None else eliminated(trace, self.summed)
        together = {name for group in groups for name in group.sites}  # finite latents and what depends on them
        nodes: dict[str, Site] = dict(trace.nodes)
        alone = [site["log_prob"] for name, site in nodes.items() if "log_prob" in site and name not in together]
        terms = [*alone, *(group.cost for group in groups)]
        return sum((term.sum() for term in terms), self.first.new_zeros(()))

    def at(self, u: torch.Tensor) -> Scored:
        """(log p(data, u), a scalar; its gradient (D,)) at u (D,)."""
        with torch.enable_grad():
            u = u.detach().requires_grad_(True)
            value = self.log_joint(u)
            (gradient,) = torch.autograd.grad(value, u, materialize_grads=True)
        return value.detach(), gradient

    def at_each(self, us: torch.Tensor) -> Scored:
        """(log p(data, u) (n,), gradients (n, D)) at us (n, D). Both are NaN at points where the model raises an error
        of arithmetic, as at a matrix that has no Cholesky factor.
        """
        parts = [self._at_some(some) for some in us.split(self.chunk)]
        return torch.cat([value for value, _ in parts]), torch.cat([gradient for _, gradient in parts])

    def hessians(self, us: torch.Tensor) -> torch.Tensor:
        """d^2 log p(data, u) / du^2 (n, D, D) at us (n, D), NaN at points where the model raises an error."""
        D = us.shape[1]
        if not self.vectorised:
            return torch.stack([self._hessian_or_nan(u) for u in us])
        one = torch.func.jacrev(torch.func.grad(self.log_joint), chunk_size=min(D, self.chunk))
        parts = []
        for some in us.split(max(1, self.chunk // D)):
            try:
                parts.append(torch.func.vmap(one)(some).detach())
            except (ValueError, RuntimeError, ArithmeticError):
                parts.append(torch.stack([self._hessian_or_nan(u) for u in some]))
        return torch.cat(parts)

    def constrained(self, u: torch.Tensor) -> dict[str, torch.Tensor]:
        """T(u), {site: shape (*batch, *shape of the site)} for u of shape (*batch, D)."""
        return {name: self.transforms[name](x) for name, x in self._parts(u).items()}

    def determined(self, u: torch.Tensor) -> dict[str, torch.Tensor]:
        """The sites that follow: one draw z ~ p(z | u, data) of finite latents, and deterministic sites there.

        {site: shape (draws, *shape of the site)} for u of shape (draws, D). Deterministic sites with more than 67
        million numbers in all draws are left out.
        """
        kept = {name for name, numbers in self.follow.items() if numbers * len(u) <= MOST or name in self.values}

        def one(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return determined(self.model, self.data, self.summed, values, kept)

        return draw_each(one, self.constrained(u)) if kept else {}

    def _parts(self, u: torch.Tensor) -> dict[str, torch.Tensor]:
        """The unconstrained value of each site, shape (*batch, *its unconstrained shape)."""
        parts = u.split([shape.numel() for shape in self.shapes], dim=-1)
        whole = zip(self.names, self.shapes, parts, strict=True)
        return {name: x.reshape(u.shape[:-1] + shape) for name, shape, x in whole}

    def _at_some(self, us: torch.Tensor) -> Scored:
        if self.vectorised and len(us) > 1:
            with suppress(ValueError, RuntimeError, ArithmeticError):  # at one of the points: the loop finds which
                return _batched(self, us)
        found = [self._at_or_nan(u) for u in us]
        return torch.stack([value for value, _ in found]), torch.stack([gradient for _, gradient in found])

    def _at_or_nan(self, u: torch.Tensor) -> Scored:
        try:
            return self.at(u)
        except (ValueError, RuntimeError, ArithmeticError) as error:
            if is_out_of_memory(error):
                raise
            return u.new_tensor(math.nan), torch.full_like(u, math.nan)

    def _hessian_or_nan(self, u: torch.Tensor) -> torch.Tensor:
        eye = torch.eye(len(u), dtype=u.dtype, device=u.device)
        try:
            with torch.enable_grad():
                return hessian_products(self.log_joint, u, eye)[1]
        except (ValueError, RuntimeError, ArithmeticError) as error:
            if is_out_of_memory(error):
                raise
            return torch.full_like(eye, math.nan)


def prepared(
    model: Program, data: tuple[Any, ...], device: torch.device, seed: int
) -> tuple[Density, State, list[str]]:
    """(the density of the model on the user's data, the state to run it in, what is to be said about the data).

    It is in double precision if the model can. Latents with masked entries follow the model there.
    Enter the state, with the dtype of `first` as torch's default, around all that is asked of the density.
    Raises ValueError as `refuse_unsampleable` and `density` do, and for data that does not belong to the model.
    """
    try:
        return _prepared_in(torch.float64, model, data, device, seed)
    except RuntimeError as error:
        if not of_dtypes(error):  # constants of the model in single precision
            raise
        return _prepared_in(torch.float32, model, data, device, seed)


def _prepared_in(
    dtype: torch.dtype, model: Program, data: tuple[Any, ...], device: torch.device, seed: int
) -> tuple[Density, State, list[str]]:
    given = arguments(model, data, dtype, device, gaps=None, whole=True)
    state = snapshot(new_state((model, data), seed, device), dtype)
    with entered(state), default_dtype(dtype), checking_model(model, given) as misread:
        proper = without_masks(model, given.values)
        summed = refuse_unsampleable(proper, given.values, given.names)
        return density(proper, given.values, summed), state, [*given.notices, *misread]


def density(model: Program, data: tuple[Any, ...], summed: Summed | None) -> Density:
    """The density of a model in the present state and precision, with its finite latents `summed` out.

    Raises ValueError if no starting point of positive density is found.
    """
    trace = start(model, data)
    sites = {name: site for name, site in latent(trace).items() if summed is None or name not in summed.sites}
    transforms = {name: biject_to(site["fn"].support) for name, site in sites.items()}
    shapes = tuple(transforms[name].inv(site["value"]).shape for name, site in sites.items())
    counted = {
        name: values_of(site["fn"]) if kind(site["fn"]) in ("Bernoulli", "Categorical") else 0
        for name, site in latent(trace).items()
    }
    finite = {name: site for name, site in latent(trace).items() if name not in sites}
    follow = {name: site["value"].numel() for name, site in (finite | deterministic(trace)).items()}
    u = next(iter(site["value"] for site in sites.values())).new_empty(sum(shape.numel() for shape in shapes))
    found = Density(model, data, summed, tuple(sites), shapes, transforms, counted, follow, u)
    found = found._replace(first=_start(found))
    found = found._replace(chunk=max(1, at_once(lambda: found.at(found.first)) // LIVE))
    batched = (form._replace(vectorised=True) for form in (found, found._replace(writes=True)) if _can_batch(form))
    return next(batched, found)


def uniform(like: torch.Tensor) -> torch.Tensor:
    """A starting point: uniform on (-WIDE, WIDE) in each coordinate."""
    return (2 * torch.rand_like(like) - 1) * WIDE


def _start(density: Density) -> torch.Tensor:
    for _ in range(TRIES):
        u = uniform(density.first)
        with suppress(torch.linalg.LinAlgError, ArithmeticError):  # at this point
            value, gradient = density.at(u)
            if value.isfinite() and gradient.isfinite().all():
                return u
    raise ValueError(
        f"the density of the model is zero or not finite at each of {TRIES} starting points (uniform on -2 to 2 "
        f"in unconstrained space); check that the model can produce the observations, and scale them to order 1"
    )


def _batched(density: Density, us: torch.Tensor) -> Scored:
    """Values (n,) and gradients (n, D) by `vmap`."""
    gradients, values = torch.func.vmap(torch.func.grad_and_value(density.log_joint))(us)
    return values.detach(), gradients.detach()


def _can_batch(density: Density) -> bool:
    """Whether `vmap` takes the density and its gradient, and both are those of one point after the other."""
    us = torch.stack([density.first, 0.9 * density.first])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where it falls back on a slow loop
        try:
            many, one = _batched(density, us), [density.at(u) for u in us]
        except Exception:
            return False
    same = [agree((many[0][i], many[1][i]), point) for i, point in enumerate(one)]
    return all(same)


def agree(one: Scored, other: Scored) -> bool:
    """Whether two computations of the density and its gradient at one point are equal up to rounding."""
    (a, da), (b, db) = one, other
    slack = 1e-3 if a.dtype == torch.float32 else 1e-6  # a constant in single precision rounds 1e-7
    scale = max(1.0, b.abs().item() if b.isfinite() else 1.0)
    same = torch.allclose(a, b, rtol=0, atol=slack * scale, equal_nan=True)
    return same and torch.allclose(da, db, rtol=slack, atol=slack * scale, equal_nan=True)
