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
LEAST, LEAST_FAR = 0.25, 0.1  # the shortest rho, and on the way
ROUND = -0.8  # share of the slope that is left, below which steps go there and back
ROUGH, WAIT = 1.0, 3  # noise of the precision, its norm, beyond which pairs are added; iterations between, far away
DEAR, LARGE = 10_000, 0.03  # gradients after which a larger error than ERROR will do
CHECKED, SHARE = 1000, 0.1  # draws whose importance weights are looked at in the end, and the share that they are worth
ROUGHLY, GROWN = 0.1, 1.5  # error that will do where they are worth less, and that share no longer grows so much
MANY, EACH = 20_000, 150  # gradients after which the steps end; for each regressor, if that is more
OVERSHOOT = 1.5  # growth of the steps at which rho is halved
FARTHEST, WIDEST = 1.0, 4.0  # of a step in sds, doubled while steps are cut; of an eigenvalue of the precision


class Settled(NamedTuple):
    """Where the natural gradients ended."""

    normal: Any  # of the form of the start
    error: float  # half the largest difference of the two averages: of a mean in sds, or of a log sd
    iterations: int
    gradients: int
    converged: bool  # whether the error is below ERROR, and draws of the normal are much like those of the posterior
    rests: bool = False  # whether the error is small, whatever its draws are worth


class Step(NamedTuple):
    """A natural-gradient step in whitened coordinates."""

    slope: torch.Tensor  # E_q[h] (D,)
    precision: torch.Tensor  # -E_q[d^2 log p / de^2] (D, D): I where the step is zero
    noise: float  # the standard error of the slope, its norm
    rough: float  # that of the precision, its norm

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
    values: Scores | None = None,
    fewest: int = FEWEST,
    iterations: int = 64,
    seed: int = 0,
) -> Settled:
    """The normal of least KL(q || p) in nats, from `start`. scores: of us (n, D). fewest: antithetic pairs.

    form: of the normal, where it is not a dense one. values: the scores without gradients, where they are cheaper.

    converged is False if the averages still differ after so many iterations, or some 20,000 gradients: the steps go on
    along a slow direction, or their noise is too large. It is False too where draws of the normal are worth few of the
    posterior: then the steps end at a larger error, since no normal holds it. The draws of an iteration are doubled
    where the precision that they give is noise, and near the end every 16 iterations.
    """
    form = form or DENSE
    normal: Any = start
    noise, D, regressors = generator(seed, start.mean), len(start.mean), form.regressors(start)
    pairs = max(min(FEWEST_FAR, fewest), regressors + max(regressors // 4, 8))
    rho, before, reach, error, used, far = 1.0, math.inf, FARTHEST, math.inf, 0, True
    path: list[Any] = [start]
    since, t = 0, 0  # the iteration at which noise began
    last, promise = start.mean, math.inf  # the mean before, and the gain that the slope there promised
    share = 0.0  # of draws of the average before
    while t < iterations and (used < MANY or t < FEWEST_LAST or used < EACH * regressors):
        t += 1
        if t % DOUBLED == 0 and error < NEAR and 4 * pairs * D < LARGEST:
            pairs = 2 * pairs
        step = form.step(scores, normal, standard(pairs, normal, noise))
        used += 2 * pairs
        if step is None:
            normal, path = form.narrower(normal), []
            last, promise = normal.mean, math.inf
            continue
        left = -(step.slope @ normal.back(last[None])[0]).item() / promise
        rho = max(LEAST_FAR if far else LEAST, min(1.0, rho * _longer(left, step.size / before, far)))
        last = normal.mean
        moved, cut = form.moved(normal, step, rho, reach)
        promise = max((step.slope @ normal.back(moved.mean[None])[0]).item(), 1e-300)
        normal, reach = moved, 2 * reach if cut and step.size <= before else FARTHEST
        if (t % WAIT == 0 or not cut) and ROUGH < step.rough < math.inf and 4 * pairs * D < LARGEST:
            pairs = min(2 * pairs, math.ceil(regressors + (pairs - regressors) * (step.rough / ROUGH) ** 2))
        if (
            step.slope.norm() > (NOISE if far else 2 * NOISE) * step.noise and step.size > EXACT
        ):  # on the way: nothing to average yet
            path, since = [], t
        elif far and not cut:
            wanted = pairs * step.noise**2 / (D * FEWEST_LAST * QUIET**2)
            pairs, path, since, far = max(min(fewest, math.ceil(wanted)), pairs), [], t, False
        before = step.size
        if before < EXACT:
            return Settled(normal, before, t, used, True, True)
        path = [*path, normal][-max(FEWEST_LAST, NUMBERS // D**2) :]
        if not far and (t - since) % EVERY == 0 and len(path) >= FEWEST_LAST:
            averaged = path if len(path) == FEWEST_LAST else path[len(path) // 3 :]
            error = max(_error(averaged, form), step.noise / math.sqrt(D * len(averaged)))
            enough = error < (ERROR if used < DEAR else LARGE)
            if enough or error < ROUGHLY:
                found, before_that, used = form.average(averaged), share, used + CHECKED
                share = _share(values or scores, found, standard(CHECKED, found, noise))
                if enough or 0 < share < min(SHARE, GROWN * before_that):  # no normal holds the posterior
                    return Settled(found, error, t, used, share > SHARE, True)
    return Settled(form.average(path[-FEWEST_LAST:]) if path else normal, error, t, used, False)


def _share(values: Scores, normal: Any, e: torch.Tensor) -> float:
    """The effective share of draws at(e) by their importance weights.

    Where it is small, a valley that bends can lead on so slowly that no average shows it: down a funnel the ELBO rises
    by .005 nats over .7 sds.
    """
    logs = values(normal.at(e))[0] - normal.log_prob_at(e)
    weights = torch.softmax(logs.nan_to_num(nan=-math.inf), 0)
    return 1 / (weights.square().sum().item() * len(e)) if weights.isfinite().all() else 0.0


def _longer(left: float, growth: float, far: bool) -> float:
    """The factor of rho. left: the slope at the end of the last step, along it, over that at its begin.

    A slope that has changed its sign tells of a step too far, by the secant; where noise moves the iterates, only one
    that is turned round does, as of iterates that jump between two places.
    """
    if growth > OVERSHOOT:
        return 0.5
    if far:
        return min(1.5, max(0.5, 1 / max(1 - left, 0.1)))
    return 1.5 if left > ROUND else 0.7


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
    root, failed = torch.linalg.cholesky_ex((correlation + correlation.T) / 2)
    if failed or not root.isfinite().all():  # more correlated than rounding allows
        return normals[-1]
    return FullRankNormal(torch.stack([normal.mean for normal in normals]).mean(0), sd[:, None] * root)


def _step(scores: Scores, normal: FullRankNormal, e: torch.Tensor) -> Step | None:
    """The step from antithetic draws mu +- F e, e (pairs, D); None if too few pairs have a density on both sides."""
    values, gradients = scores(normal.at(torch.cat([e, -e])))
    h = (gradients @ normal.factor).unflatten(0, (2, len(e)))
    good = h.isfinite().all(-1).all(0) & values.unflatten(0, (2, len(e))).isfinite().all(0)
    if good.sum() < max(len(e) // 2, e.shape[1] + 1):
        return None
    e, (up, down) = e[good], h[:, good]
    slopes, even = torch.linalg.lstsq(e, (up - down) / 2).solution, (up + down) / 2
    rough = roughness((up - down) / 2 - e @ slopes, e.shape[1])
    return Step(even.mean(0), -(slopes + slopes.T) / 2, standard_error(even), rough)


def roughness(left: torch.Tensor, regressors: int) -> float:
    """The norm of the standard error of the symmetric part of slopes, from the residuals (n, D) of the regression."""
    return math.sqrt(left.square().sum().item() * regressors / 2) / max(len(left) - regressors, 1)


def kept(rho: float, rough: float) -> float:
    """The share of a new precision in the next one: less where it is noise, which can turn eigenvalues negative."""
    return rho * min(1.0, ROUGH / max(rough, 1e-300))


def standard_error(even: torch.Tensor) -> float:
    """The norm of the standard error of a mean of (n, D)."""
    return math.sqrt(even.var(0).sum().item() / len(even))


def _moved(normal: FullRankNormal, step: Step, rho: float, reach: float) -> tuple[FullRankNormal, bool]:
    """(The normal after a step of length rho, whether the shift was cut).

    The shift goes no farther than `reach` sds in each whitened coordinate, an eigenvalue changes at most by WIDEST.
    """
    values, Q = torch.linalg.eigh(step.precision)
    new = kept(rho, step.rough)
    values = ((1 - new) + new * values).clamp(1 / WIDEST, WIDEST)
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
