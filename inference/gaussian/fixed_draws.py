"""The normal of least KL(q || p) in a family that does not hold every covariance, on draws that stay as they are.

    maximise over theta:   mean_k log p(data, u_k) + log |det|,   u_k = at(theta, e_k),   e_k ~ N(0, I) drawn once

So the ELBO is a function without noise, and L-BFGS finds its maximum: no learning rate, no averages. The draws come in
pairs e and -e from a scrambled Sobol sequence, scaled so that their means are 0 and their covariance is I: of a normal
posterior they give the ELBO exactly. What other posteriors lose by having few draws is measured: the maximum is found
again with four times as many other draws, until it stays where it is.
Source: Giordano, Ingram and Broderick 2024 (deterministic ADVI); Owen 1997 for scrambled sequences.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .few_pairs import climb
from .full_rank_normal import Counted, Normal, Scores

FEWEST, LARGEST = 32, 8192  # antithetic pairs of draws in the first round, and in the last one at most
NUMBERS = 2**22  # in the draws of a round, at most
MORE = 4  # times as many draws in the next round
ERROR = 0.02  # of a mean in sds, and of a log sd
GAIN = 0.01  # nats of ELBO that the normal may lack, by what one of fewer draws lacked
LITTLE = 1e-4  # nats gained in 8 steps, below which an ascent ends


class Family(NamedTuple):
    """Normals of u (D,) by their parameters theta (P,), scaled so that a step of 1 matters about as much in each."""

    start: torch.Tensor  # theta
    noise: int  # M, standard normals of a draw
    at: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (theta, e (n, M)) -> us (n, D)
    log_det: Callable[[torch.Tensor], torch.Tensor]  # log |det Sigma|^(1/2), a scalar
    normal: Callable[[torch.Tensor], Any]  # theta -> the normal


class Fixed(NamedTuple):
    """The best normal of a family."""

    normal: Any
    elbo: float  # nats
    error: float  # of a mean in sds, or of a log sd: the largest, from two sets of draws
    converged: bool  # whether that is below ERROR, and the ELBO stays
    gradients: int


def on_fixed_draws(
    scores: Scores, families: list[Family], *, little: float = LITTLE, largest: int = LARGEST, seed: int = 0
) -> Fixed | None:
    """The normal of largest ELBO, from the start of each family (the same family, started at several places).

    None if no start has draws of finite density. scores: us (n, D) -> (log p(data, u) in nats, gradients).
    little: nats gained in 8 steps, below which an ascent ends. largest: pairs of draws at most.
    """
    counted = Counted(scores)
    M, D = families[0].noise, len(families[0].normal(families[0].start).mean)
    many = _power(2 * M)  # with so many the covariance of the draws is I; a second round must be possible
    pairs = max(FEWEST, many) if MORE * many <= largest and MORE * many * D <= NUMBERS else FEWEST
    e = draws(pairs, M, families[0].start, seed)
    tried = [(family, *_best(counted, family, family.start, e, little)[:2]) for family in families]
    found = [each for each in tried if math.isfinite(each[2])]
    if not found:
        return None
    family, theta, elbo = max(found, key=lambda each: each[2])
    normal, error = family.normal(theta), math.inf
    while MORE * pairs <= largest and MORE * pairs * D <= NUMBERS:
        pairs, before = MORE * pairs, normal
        theta, elbo, gain = _best(counted, family, theta, draws(pairs, M, theta, seed + pairs), little)
        normal = family.normal(theta)
        error = difference(before, normal) / math.sqrt(1 + MORE) if math.isfinite(elbo) else math.inf
        if error < ERROR and gain < MORE * GAIN:
            return Fixed(normal, elbo, error, True, counted.points)
    return Fixed(normal, elbo, error, False, counted.points)


def _power(least: int) -> int:
    return 2 ** math.ceil(math.log2(max(least, 1)))


def difference(one: Normal, two: Normal) -> float:
    """The largest difference of a mean in sds, or of a log sd."""
    means, sds = (one.mean - two.mean) / two.sd, (one.sd / two.sd).log()
    return max(means.abs().max().item(), sds.abs().max().item())


def draws(pairs: int, M: int, like: torch.Tensor, seed: int) -> torch.Tensor:
    """e (2 pairs, M), for each e also -e, whose covariance is I; whose variances are 1, where pairs are few."""
    sobol: Any = torch.quasirandom.SobolEngine(M, scramble=True, seed=seed)
    uniform = sobol.draw(pairs, dtype=torch.float64)
    half = 1e-6
    e = torch.special.ndtri(uniform.clamp(half, 1 - half)).to(like)
    if pairs >= 2 * M:
        e = torch.linalg.solve_triangular(torch.linalg.cholesky(e.T @ e / pairs), e.T, upper=False).T
    else:
        e = e / e.square().mean(0).sqrt()
    return torch.cat([e, -e])


def _best(
    scores: Scores, family: Family, theta: torch.Tensor, e: torch.Tensor, little: float
) -> tuple[torch.Tensor, float, float]:
    """(theta of the largest ELBO on these draws, that ELBO, its gain over the start)."""

    def elbos(thetas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = [_elbo(scores, family, each, e) for each in thetas]
        return torch.stack([value for value, _ in found]), torch.stack([gradient for _, gradient in found])

    before = elbos(theta[None])[0].item()
    end = climb(elbos, theta[None], torch.ones_like(theta)[None], little=little)
    return end.us[0], end.values.item(), end.values.item() - before


def _elbo(scores: Scores, family: Family, theta: torch.Tensor, e: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(The ELBO on these draws in nats, its gradient (P,)); NaN where a draw has no density."""
    with torch.enable_grad():
        theta = theta.detach().requires_grad_(True)
        us, log_det = family.at(theta, e), family.log_det(theta)
        values, gradients = scores(us.detach())
        (gradient,) = torch.autograd.grad((us * gradients).sum() / len(e) + log_det, theta)
    entropy = log_det.detach() + us.shape[1] * (1 + math.log(2 * math.pi)) / 2
    return values.mean() + entropy, gradient
