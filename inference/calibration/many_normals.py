"""The normals in unconstrained space that approximate many posteriors, found together: S data sets of one model.

    Newton's steps from several starts  ->  the normal on the way with the best ELBO  ->  natural gradients

These are the steps of `gaussian/`, taken for all data sets in the same call of `vmap`: small problems cost Python's
time, not arithmetic. Data sets that still move after the last step are told.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from ..gaussian.density import Density, uniform
from .many_svi import data_with

STARTS = 4  # for each data set: each second one is minus the one before
NEWTON, HALVINGS, PROMISE = 30, 12, 1e-6  # steps; of a step that gains nothing; nats of gain at which a point rests
TRIED, PAIRS = 16, 64  # draws for the ELBO of a normal on the way; antithetic pairs of a natural gradient
ITERATIONS, LAST = 40, 16  # natural gradients, and iterates that are averaged
FLAT = 1e-10  # of the largest eigenvalue: smaller ones are taken for it
FARTHEST, WIDEST = 1.0, 4.0  # of a step: sds, and the change of an eigenvalue of the precision
SETTLED = 0.05  # difference of the averages of two halves, of a mean in sds or of a log sd, of fits that rest

Arguments = dict[int, torch.Tensor]


class Normals(NamedTuple):
    """S normals N(mean, factor factor^T) of D unconstrained latents."""

    mean: torch.Tensor  # (S, D)
    factor: torch.Tensor  # (S, D, D)
    moving: torch.Tensor  # (S,), whether the averages of the two halves of the last iterates differ
    residual: torch.Tensor  # (S,), size of the last step: 0 where the posterior is normal

    def drawn(self, n: int, noise: torch.Generator) -> torch.Tensor:
        """n draws of each, (S, n, D)."""
        S, D = self.mean.shape
        return self.at(torch.randn(S, n, D, generator=noise, dtype=self.mean.dtype))

    def at(self, e: torch.Tensor) -> torch.Tensor:
        """mu + F e, (S, n, D) for e (n, D) or (S, n, D)."""
        return self.mean[:, None] + e @ self.factor.mT


class Problems(NamedTuple):
    """log p(y_s, u) of S data sets. The state of the density is entered."""

    density: Density
    arguments: Arguments  # {index: (S, *shape)}

    @property
    def number(self) -> int:
        """S."""
        return len(next(iter(self.arguments.values())))

    def scores(self, us: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(log p(y_s, u) (S, n), gradients (S, n, D)) at us (S, n, D)."""

        def one(mine: Arguments, some: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            gradients, values = torch.func.vmap(torch.func.grad_and_value(self._log_joint(mine)))(some)
            return values.detach(), gradients.detach()

        return torch.func.vmap(one, randomness="different")(self.arguments, us)

    def hessians(self, us: torch.Tensor) -> torch.Tensor:
        """d^2 log p / du^2 (S, D, D) at us (S, D)."""

        def one(mine: Arguments, u: torch.Tensor) -> torch.Tensor:
            return torch.func.jacrev(torch.func.grad(self._log_joint(mine)))(u).detach()

        return torch.func.vmap(one, randomness="different")(self.arguments, us)

    def repeated(self, times: int) -> "Problems":
        """Each data set so many times, one after the other."""
        return self._replace(arguments={i: v.repeat_interleave(times, 0) for i, v in self.arguments.items()})

    def _log_joint(self, mine: Arguments) -> Callable[[torch.Tensor], torch.Tensor]:
        return self.density._replace(data=data_with(self.density.data, mine)).log_joint


def normals(problems: Problems, noise: torch.Generator, *, laplace: bool) -> Normals:
    """The normal of each data set, of full rank: at the mode (Laplace), or of least KL(q || p)."""
    at_once = max(1, problems.density.chunk // (2 * PAIRS))
    parts = []
    for some in torch.arange(problems.number).split(at_once):
        part = problems._replace(arguments={i: value[some] for i, value in problems.arguments.items()})
        parts.append(modes(part, noise) if laplace else full_rank_normals(part, noise))
    return Normals(*(torch.cat(list(values)) for values in zip(*parts, strict=True)))


def full_rank_normals(problems: Problems, noise: torch.Generator) -> Normals:
    """The normals of least KL(q || p), one for each data set."""
    start = modes(problems, noise, centred=False)
    D = start.mean.shape[1]
    pairs = max(PAIRS, D + D // 4)
    mean, factor, path = start.mean, start.factor, []
    eye = torch.eye(D, dtype=mean.dtype)
    for _ in range(ITERATIONS):
        e = torch.randn(pairs, D, generator=noise, dtype=mean.dtype)
        _, gradients = problems.scores(Normals(mean, factor, *start[2:]).at(torch.cat([e, -e])))
        up, down = (gradients @ factor).nan_to_num(posinf=0.0, neginf=0.0).split(pairs, dim=1)
        slope = (up + down).mean(1) / 2
        slopes = torch.linalg.pinv(e) @ ((up - down) / 2)  # Stein's lemma by regression: exact for normals
        precision = -(slopes + slopes.mT) / 2
        values, Q = torch.linalg.eigh(precision)
        values = values.clamp(1 / WIDEST, WIDEST)
        shift = torch.einsum("sij,sj,skj,sk->si", Q, 1 / values, Q, slope)
        shift = shift * (FARTHEST / shift.abs().amax(1, keepdim=True).clamp(min=FARTHEST))
        mean = mean + torch.einsum("sij,sj->si", factor, shift)
        factor = factor @ (Q * values.rsqrt()[:, None, :])
        path.append((mean, factor @ factor.mT))
        residual = torch.maximum(slope.norm(dim=1), (precision - eye).flatten(1).norm(dim=1))
    one, other = _average(path[-LAST : -LAST // 2]), _average(path[-LAST // 2 :])
    mean, covariance = _average(path[-LAST:])
    sds = covariance.diagonal(dim1=1, dim2=2).sqrt()
    apart = torch.stack([(one[0] - other[0]).abs() / sds, _log_sds(one[1]) - _log_sds(other[1])]).abs().amax((0, 2))
    return Normals(mean, _factor(covariance), ~(apart < SETTLED), residual)


def modes(problems: Problems, noise: torch.Generator, *, centred: bool = True) -> Normals:
    """Laplace's normals, at the ends of Newton's steps from several starts; the best of each data set by its ELBO.

    centred: False takes the best normal on the way too, since a mode need not be where the mass is.
    """
    S, D = problems.number, len(problems.density.first)
    half = torch.stack([uniform(problems.density.first) for _ in range(S * STARTS // 2)])
    us = torch.stack([half, -half], 1).reshape(S * STARTS, D)
    each = problems.repeated(STARTS)
    best = _Best(torch.full((len(us),), -math.inf, dtype=us.dtype), us, torch.zeros(len(us), D, D, dtype=us.dtype))
    values, gradients = (x[:, 0] for x in each.scores(us[:, None]))
    for _ in range(NEWTON):
        inverse = _inverted(each.hessians(us))
        way = torch.einsum("sij,sj->si", inverse, gradients)
        promise = (way * gradients).sum(1)
        if not centred:
            best = best.better(each, us + way, inverse, noise)
        moving = promise / 2 > PROMISE
        if not moving.any():
            break
        t = moving.to(us.dtype)
        for _ in range(HALVINGS):
            new_values, new_gradients = (x[:, 0] for x in each.scores((us + t[:, None] * way)[:, None]))
            good = (new_values >= values + 1e-4 * t * promise) & new_gradients.isfinite().all(1)
            if (good | ~moving).all():
                break
            t = torch.where(good, t, t / 2)
        step = (good & moving)[:, None]
        us = torch.where(step, us + t[:, None] * way, us)
        values, gradients = torch.where(step[:, 0], new_values, values), torch.where(step, new_gradients, gradients)
    best = best.better(each, us, _inverted(each.hessians(us)), noise)
    at = torch.arange(S) * STARTS + best.elbo.reshape(S, STARTS).argmax(1)
    rests = torch.zeros(S, dtype=us.dtype)
    return Normals(best.mean[at], best.factor[at], ~best.elbo[at].isfinite(), rests)


class _Best(NamedTuple):
    """The best normal so far of each point."""

    elbo: torch.Tensor  # (P,), nats
    mean: torch.Tensor
    factor: torch.Tensor

    def better(
        self, problems: Problems, mean: torch.Tensor, covariance: torch.Tensor, noise: torch.Generator
    ) -> "_Best":
        """The same, or these normals where their ELBO is larger."""
        e = torch.randn(TRIED, mean.shape[1], generator=noise, dtype=mean.dtype)
        factor = _factor(covariance)
        values, _ = problems.scores(mean[:, None] + e @ factor.mT)
        elbo = values.mean(1) + factor.diagonal(dim1=1, dim2=2).abs().log().sum(1)
        elbo = elbo.nan_to_num(nan=-math.inf, posinf=-math.inf)
        up = elbo > self.elbo
        return _Best(
            torch.where(up, elbo, self.elbo),
            torch.where(up[:, None], mean, self.mean),
            torch.where(up[:, None, None], factor, self.factor),
        )


def _average(path: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    means, covariances = (torch.stack(list(some)).mean(0) for some in zip(*path, strict=True))
    return means, covariances


def _log_sds(covariance: torch.Tensor) -> torch.Tensor:
    return covariance.diagonal(dim1=1, dim2=2).log() / 2


def _factor(covariance: torch.Tensor) -> torch.Tensor:
    """The Cholesky factors (S, D, D), scaled before so that units cost no digits; NaN where there is none."""
    sds = covariance.diagonal(dim1=1, dim2=2).sqrt()
    factor, failed = torch.linalg.cholesky_ex(covariance / sds[:, :, None] / sds[:, None, :])
    return torch.where((failed == 0)[:, None, None], sds[:, :, None] * factor, math.nan)


def _inverted(hessians: torch.Tensor) -> torch.Tensor:
    """|-H|^-1 (S, D, D): positive definite, eigenvalues without their signs; the identity where H is not finite."""
    scale = hessians.diagonal(dim1=1, dim2=2).abs().rsqrt().nan_to_num(nan=1.0, posinf=1.0)
    scaled = scale[:, :, None] * (hessians + hessians.mT) / -2 * scale[:, None, :]
    eye = torch.eye(hessians.shape[1], dtype=hessians.dtype)
    values, Q = torch.linalg.eigh(torch.where(scaled.isfinite().all(-1).all(-1)[:, None, None], scaled, eye))
    values = values.abs().clamp(min=FLAT * values.abs().amax(-1, keepdim=True))
    return scale[:, :, None] * ((Q / values[:, None, :]) @ Q.mT) * scale[:, None, :]
