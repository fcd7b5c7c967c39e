"""The normal of least KL(q || p), by natural gradients of the ELBO: Newton's steps for a mean and a covariance.

    mu <- mu + Sigma' E_q[g],   Sigma'^-1 <- (1 - rho) Sigma^-1 - rho E_q[d^2 log p / du^2],   g = d log p(data, u) / du

The second derivative is the slope of the regression of g on u over antithetic draws of q (Stein's lemma without its
noise: where p is normal the regression is exact). Once the steps are noise, few draws on the way are followed by as
many as their noise asks for; the answer is the average of the iterates from there, once the averages of their first and
last third agree. Source: Khan and Rue 2023; Salimans and Knowles 2013 for the regression.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .full_rank_normal import FullRankNormal, Normal, Scores, generator, standard

FEWEST_FAR = 32  # antithetic pairs of an iteration while steps get shorter
FEWEST = 128  # antithetic pairs of an iteration, and with many latents a quarter more than D
DOUBLED, LARGEST = 16, 2**20  # iterations after which the pairs are doubled; numbers in the draws of an iteration
NEAR = 0.2  # error at which noise, and no longer the way, may be what keeps averages apart
ERROR = 0.015  # of a mean in sds, and of a log sd: half the difference of two averages that agree
EXACT = 3e-3  # size of a step after which nothing is left to average
QUIET = 0.004  # noise of the average of the last iterates that the pairs are chosen for, root mean square in sds
FEWEST_LAST = 12  # iterates that are averaged, at least
NUMBERS = 2**24  # in the covariances that are kept
EVERY = 4  # iterations between two comparisons of averages
NOISE = 2.0  # times its noise: a slope below it is taken for noise
LEAST = 0.25  # the shortest rho
OVERSHOOT = 1.5  # growth of the steps at which rho is halved
FARTHEST, WIDEST = 1.0, 4.0  # of a step in sds, doubled while steps are cut; of an eigenvalue of the precision


class Settled(NamedTuple):
    """Where the natural gradients ended."""

    normal: Any  # of the form of the start
    error: float  # half the largest difference of the two averages: of a mean in sds, or of a log sd
    iterations: int
    gradients: int
    converged: bool  # whether the error is below ERROR


class Step(NamedTuple):
    """A natural-gradient step in whitened coordinates."""

    slope: torch.Tensor  # E_q[h] (D,)
    precision: torch.Tensor  # -E_q[d^2 log p / de^2] (D, D): I where the step is zero
    noise: float  # the standard error of the slope, its norm

    @property
    def size(self) -> float:
        """The norm of the step: sds, and changes of the precision relative to itself."""
        eye = torch.eye(len(self.slope), dtype=self.slope.dtype, device=self.slope.device)
        return max(self.slope.norm().item(), (self.precision - eye).norm().item())


def natural_gradient(
    scores: Scores,
    start: Normal,
    form: "Form | None" = None,
    *,
    fewest: int = FEWEST,
    iterations: int = 64,
    seed: int = 0,
) -> Settled:
    """The normal of least KL(q || p) in nats, from `start`. scores: of us (n, D). fewest: antithetic pairs.

    form: of the normal, where it is not a dense one.

    converged is False if the averages still differ after so many iterations: the steps go on along a slow direction, or
    their noise is too large. Near the end the draws of an iteration are doubled every 16 iterations.
    """
    form = form or DENSE
    normal: Any = start
    noise, D, regressors = generator(seed, start.mean), len(start.mean), form.regressors(start)
    pairs = max(min(FEWEST_FAR, fewest), regressors + max(regressors // 4, 8))
    rho, before, reach, error, used, path, far = 1.0, math.inf, FARTHEST, math.inf, 0, [start], True
    since = 0  # the iteration at which noise began
    for t in range(1, iterations + 1):
        if t % DOUBLED == 0 and error < NEAR and 4 * pairs * D < LARGEST:
            pairs = 2 * pairs
        step = form.step(scores, normal, standard(pairs, normal, noise))
        used += 2 * pairs
        if step is None:
            normal, path = form.narrower(normal), []
            continue
        rho = max(LEAST, rho / 2) if step.size > OVERSHOOT * before else min(1.0, 1.5 * rho)
        normal, cut = form.moved(normal, step, rho, reach)
        reach = 2 * reach if cut and step.size <= before else FARTHEST
        if (
            step.slope.norm() > (NOISE if far else 2 * NOISE) * step.noise and step.size > EXACT
        ):  # on the way: nothing to average yet
            path, since = [], t
        elif far and not cut:
            wanted = pairs * step.noise**2 / (D * FEWEST_LAST * QUIET**2)
            pairs, path, since, far = max(min(fewest, math.ceil(wanted)), pairs), [], t, False
        before = step.size
        if before < EXACT:
            return Settled(normal, before, t, used, True)
        path = [*path, normal][-max(FEWEST_LAST, NUMBERS // D**2) :]
        if not far and (t - since) % EVERY == 0 and len(path) >= FEWEST_LAST:
            last = path if len(path) == FEWEST_LAST else path[len(path) // 3 :]
            error = max(_error(last, form), step.noise / math.sqrt(D * len(last)))
            if error < ERROR:
                return Settled(form.average(last), error, t, used, True)
    return Settled(form.average(path[-FEWEST_LAST:]) if path else normal, error, iterations, used, False)


def _error(path: list[Any], form: "Form") -> float:
    """Half the largest difference, of a mean in sds or of a log sd, between averages of the first and last third."""
    third = len(path) // 3
    one, two = form.average(path[:third]), form.average(path[-third:])
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
    slopes, even = torch.linalg.lstsq(e, (up - down) / 2).solution, (up + down) / 2
    return Step(even.mean(0), -(slopes + slopes.T) / 2, standard_error(even))


def standard_error(even: torch.Tensor) -> float:
    """The norm of the standard error of a mean of (n, D)."""
    return math.sqrt(even.var(0).sum().item() / len(even))


def _moved(normal: FullRankNormal, step: Step, rho: float, reach: float) -> tuple[FullRankNormal, bool]:
    """(The normal after a step of length rho, whether the shift was cut).

    The shift goes no farther than `reach` sds in each whitened coordinate, an eigenvalue changes at most by WIDEST.
    """
    values, Q = torch.linalg.eigh(step.precision)
    values = ((1 - rho) + rho * values).clamp(1 / WIDEST, WIDEST)
    shift = rho * (Q @ ((Q.T @ step.slope) / values))
    length = min(1.0, reach / max(shift.abs().max().item(), 1e-300))
    return normal.moved(length * shift, Q * values.rsqrt()), length < 1


def _narrower(normal: FullRankNormal) -> FullRankNormal:
    return normal._replace(factor=normal.factor / 2)


class Form(NamedTuple):
    """What a step needs to know of the form of a normal. The first argument of each but `step` is such a normal."""

    regressors: Callable[[Any], int]  # draws of a step must outnumber them
    step: Callable[[Scores, Any, torch.Tensor], Any]  # None if too few draws have a density; has `size`
    moved: Callable[[Any, Any, float, float], tuple[Any, bool]]
    narrower: Callable[[Any], Any]
    average: Callable[[list[Any]], Any]


DENSE = Form(lambda normal: len(normal.mean), _step, _moved, _narrower, average)
