"""The normal of least KL(q || p), by natural gradients of the ELBO: Newton's steps for a mean and a covariance.

    mu <- mu + Sigma' E_q[g],   Sigma'^-1 <- (1 - rho) Sigma^-1 - rho E_q[d^2 log p / du^2],   g = d log p(data, u) / du

The second derivative is the slope of the regression of g on u over antithetic draws of q (Stein's lemma without its
noise: where p is normal the regression is exact). The answer is the average of the last iterates, once the averages of
their two halves agree. Source: Khan and Rue 2023; Salimans and Knowles 2013 for the
regression.
"""

import math
from typing import NamedTuple

import torch

from .full_rank_normal import FullRankNormal, Scores, generator, standard

FEWEST = 128  # antithetic pairs of an iteration, and with many latents a quarter more than D
DOUBLED, LARGEST = 16, 2**20  # iterations after which the pairs are doubled; numbers in the draws of an iteration
NEAR = 0.2  # error at which noise, and no longer the way, may be what keeps averages apart
ERROR = 0.015  # of a mean in sds, and of a log sd: half the difference of two averages that agree
EXACT = 1e-7  # size of a step after which nothing is left to average
FEWEST_LAST = 8  # iterates that are averaged, at least; a quarter of all
FIRST, EVERY = 12, 4  # iterations before the first comparison of averages, and between two; two in turn must agree
LEAST = 0.25  # the shortest rho
OVERSHOOT = 1.5  # growth of the steps at which rho is halved
FARTHEST, WIDEST = 1.0, 4.0  # of a step in sds, doubled while steps are cut; of an eigenvalue of the precision


class Settled(NamedTuple):
    """Where the natural gradients ended."""

    normal: FullRankNormal
    error: float  # half the largest difference of the two averages: of a mean in sds, or of a log sd
    iterations: int
    gradients: int
    converged: bool  # whether the error is below ERROR


class Step(NamedTuple):
    """A natural-gradient step in whitened coordinates."""

    slope: torch.Tensor  # E_q[h] (D,)
    precision: torch.Tensor  # -E_q[d^2 log p / de^2] (D, D): I where the step is zero

    @property
    def size(self) -> float:
        """The norm of the step: sds, and changes of the precision relative to itself."""
        eye = torch.eye(len(self.slope), dtype=self.slope.dtype, device=self.slope.device)
        return max(self.slope.norm().item(), (self.precision - eye).norm().item())


def natural_gradient(
    scores: Scores, start: FullRankNormal, *, fewest: int = FEWEST, iterations: int = 64, seed: int = 0
) -> Settled:
    """The normal of least KL(q || p) in nats, from `start`. scores: of us (n, D). fewest: antithetic pairs.

    converged is False if the averages still differ after so many iterations: the steps go on along a slow direction, or
    their noise is too large. Near the end the draws of an iteration are doubled every 16 iterations.
    """
    normal, noise, D = start, generator(seed, start.mean), len(start.mean)
    pairs, used, path, rho, before, reach = max(fewest, D + D // 4), 0, [start], 1.0, math.inf, FARTHEST
    error = math.inf
    for t in range(1, iterations + 1):
        if t % DOUBLED == 0 and error < NEAR and 4 * pairs * D < LARGEST:
            pairs = 2 * pairs
        step = _step(scores, normal, standard(pairs, normal, noise))
        used += 2 * pairs
        if step is None:
            normal, path = normal._replace(factor=normal.factor / 2), []
            continue
        rho = max(LEAST, rho / 2) if step.size > OVERSHOOT * before else min(1.0, 1.5 * rho)
        normal, cut = _moved(normal, step, rho, reach)
        reach = 2 * reach if cut and step.size <= before else FARTHEST
        before = step.size
        if before < EXACT:
            return Settled(normal, before, t, used, True)
        last = max(FEWEST_LAST, t // 4)
        path = [*path, normal][-last - EVERY :]
        if t >= FIRST and t % EVERY == 0 and len(path) >= last:
            before_that, error = error, _error(path[-last:])
            if max(error, before_that) < ERROR:
                return Settled(average(path[-last:]), error, t, used, True)
    last = max(FEWEST_LAST, iterations // 4)
    return Settled(average(path[-last:]) if path else normal, error, iterations, used, False)


def _error(path: list[FullRankNormal]) -> float:
    """Half the largest difference, of a mean in sds or of a log sd, between the averages of the two halves."""
    one, two = average(path[: len(path) // 2]), average(path[len(path) // 2 :])
    means, sds = (one.mean - two.mean) / two.sd, (one.sd / two.sd).log()
    return max(means.abs().max().item(), sds.abs().max().item()) / 2


def average(normals: list[FullRankNormal]) -> FullRankNormal:
    """The normal whose mean and covariance are the averages of those of normals that are close to each other."""
    covariance = torch.stack([normal.covariance for normal in normals]).mean(0)
    sd = covariance.diagonal().sqrt()
    correlation = covariance / sd[:, None] / sd
    factor = sd[:, None] * torch.linalg.cholesky((correlation + correlation.T) / 2)
    return FullRankNormal(torch.stack([normal.mean for normal in normals]).mean(0), factor)


def _step(scores: Scores, normal: FullRankNormal, e: torch.Tensor) -> Step | None:
    """The step from antithetic draws mu +- F e, e (pairs, D); None if too few pairs have a density on both sides."""
    values, gradients = scores(normal.at(torch.cat([e, -e])))
    h = (gradients @ normal.factor).unflatten(0, (2, len(e)))
    good = h.isfinite().all(-1).all(0) & values.unflatten(0, (2, len(e))).isfinite().all(0)
    if good.sum() < max(len(e) // 2, e.shape[1] + 1):
        return None
    e, (up, down) = e[good], h[:, good]
    slopes = torch.linalg.lstsq(e, (up - down) / 2).solution
    return Step((up + down).mean(0) / 2, -(slopes + slopes.T) / 2)


def _moved(normal: FullRankNormal, step: Step, rho: float, reach: float) -> tuple[FullRankNormal, bool]:
    """(The normal after a step of length rho, whether the shift was cut).

    The shift goes no farther than `reach` sds in each whitened coordinate, an eigenvalue changes at most by WIDEST.
    """
    values, Q = torch.linalg.eigh(step.precision)
    values = ((1 - rho) + rho * values).clamp(1 / WIDEST, WIDEST)
    shift = rho * (Q @ ((Q.T @ step.slope) / values))
    length = min(1.0, reach / max(shift.abs().max().item(), 1e-300))
    return normal.moved(length * shift, Q * values.rsqrt()), length < 1
