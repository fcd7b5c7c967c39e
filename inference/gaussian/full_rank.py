"""The normal that approximates a posterior in unconstrained space, from start to end.

    starts (Pathfinder)  ->  natural gradients  ->  Pareto k-hat

Where natural gradients do not come to rest, they are tried again from a narrow normal at a starting point: an ascent
may have ended in the spike of a hierarchy at scale zero. Batch and match is tried where they do not come to rest again,
and alone where latents are so many that natural gradients would need too many draws. Of those whose log evidence is not
much smaller, and of those that converged, if any did, the normal of the larger effective sample size is taken.
"""

import math
from contextlib import suppress
from typing import Any, NamedTuple

import torch

from ..runtime.generators import noise
from .ascent import Hessians
from .batch_and_match import batch_and_match
from .density import TRIES, Density, uniform
from .full_rank_normal import FullRankNormal, Normal, Scores, elsewhere, generator, standard
from .natural_gradient import ERROR, NEAR, Settled, natural_gradient
from .psis import Importance, importance, weighted_moments
from .starts import SPARSE, Path, pathfinder

PATHS, FEWER = 4, 2  # ascents, up to and beyond SEVERAL latents
SEVERAL = 200
DRAWS = 2000  # whose importance weights are computed; LOOK_AGAIN times as many where they are not reliable
FEW_DRAWS, DEAR = 400, 64  # the same where fewer than DEAR points fit into memory at once: much data
FEWEST_DRAWS, DEAREST = 100, 4  # the same of data of which one point takes much of a second
LOOK_AGAIN = 4
NUMBERS = 2**23  # in all draws
MOST = 1000  # latents up to which natural gradients refine the result: they need more draws than latents
BATCH, LARGER = 32, 64  # draws of an iteration of batch and match, up to and beyond SMALL latents
SMALL = 100
SHORT, LONG = 100, 300  # iterations of batch and match at most, after natural gradients and in their place
NARROW = 0.1  # sds of the normal at a starting point
LESS = 5.0  # nats by which the lesser of two modes may be below log p(data)
NEWTON, IN_A_LOOP = 1000, 30  # latents up to which Hessians are taken; the same for a model that `vmap` does not take
PASSES = 2  # of gradients that fit into memory at once, which a Hessian may take


class Weighed(NamedTuple):
    """What importance weights say of a normal."""

    importance: Importance
    mean_errors: torch.Tensor  # (D,), of the normal, in sds of the posterior; noise of 1 / sqrt(ess)
    sd_ratios: torch.Tensor  # (D,), the sds of the normal over those of the posterior; noise of 1 / sqrt(2 ess)
    us: torch.Tensor  # the draws of the normal that have the weights (n, D)


class FullRank(NamedTuple):
    """The normal that was found, and how good it is."""

    normal: Any  # a FullRankNormal; of `approximate.py` also one with groups, or of low rank
    method: str  # what found it
    converged: bool
    error: float  # the standard error of a mean in sds, and of a log sd, that the noise of the draws leaves
    gradients: int
    weighed: Weighed  # by draws of the normal
    paths: list[Path]  # the best one first: paths that end in other modes have other ends
    rests: bool = False  # whether the error is small, whatever draws of the normal are worth


def full_rank(
    scores: Scores,
    starts: torch.Tensor,
    hessians: Hessians | None = None,
    *,
    values: Scores | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> FullRank:
    """The normal of full rank, from starting points (K, D).

    scores: us (n, D) -> (log p(data, u), gradients). hessians: us (K, D) -> (K, D, D), where they are cheap.
    values: the scores without gradients, where they are cheaper.
    draws: whose importance weights are computed; natural gradients take a sixteenth as many antithetic pairs.
    """
    paths = pathfinder(scores, starts, hessians, values=values, fewer=_fewer(draws), seed=seed)
    D, used = starts.shape[1], paths[0].gradients
    found: list[tuple[Any, str, bool, float, bool]] = []  # normal, method, converged, error, rests
    if D <= MOST:
        eye = torch.eye(D, dtype=starts.dtype, device=starts.device)
        for attempt, start in enumerate((paths[0].normal, FullRankNormal(starts[0], NARROW * eye))):
            refined = natural_gradient(scores, start, values=values, fewest=draws // 16, seed=seed + 2 + 3 * attempt)
            found, used = [*found, _candidate(refined, "natural gradient")], used + refined.gradients
            if refined.rests or refined.error < NEAR:
                break
    if not found or (not found[-1][2] and found[-1][3] >= NEAR):
        batch, most = BATCH if D <= SMALL else LARGER, SHORT if D <= MOST else LONG
        matched = batch_and_match(scores, paths[0].normal, batch=batch, iterations=most, seed=seed + 1)
        error = matched.residual * math.sqrt(2 / batch)
        settled = matched.settled and error < ERROR
        found.append((matched.normal, "batch and match", settled, error, settled))
        used += matched.gradients
    weighed = [weights_of(values or scores, normal, draws, seed + 3) for normal, *_ in found]
    top = max(each.importance.log_evidence for each in weighed)

    def order(i: int) -> tuple[bool, bool, float]:
        return weighed[i].importance.log_evidence < top - LESS, not found[i][2], -weighed[i].importance.ess

    best = min(range(len(found)), key=order)
    looked, more = looked_at(values or scores, found[best][0], draws, seed + 3, weighed[best])
    normal, method, converged, error, rests = found[best]
    return FullRank(normal, method, converged, error, used + draws * (len(found) - 1) + more, looked, paths, rests)


def _fewer(draws: int) -> int:
    return 1 if draws >= DRAWS else 4 if draws >= FEW_DRAWS else SPARSE


def _candidate(found: Settled, method: str) -> tuple[Any, str, bool, float, bool]:
    return found.normal, method, found.converged, found.error, found.rests


def looked_at(
    scores: Scores, normal: Normal, draws: int, seed: int, first: Weighed | None = None
) -> tuple[Weighed, int]:
    """(The importance weights of a normal, the gradients taken). Those that are not reliable are computed once more, of
    more draws: k-hat of few draws is noisy, and the better of the two would be biased, so that it is averaged.
    """
    weighed = first or weights_of(scores, normal, draws, seed)
    if weighed.importance.reliable:
        return weighed, draws
    again = weights_of(scores, normal, LOOK_AGAIN * draws, seed + 1)
    k_hat = (weighed.importance.k_hat + again.importance.k_hat) / 2
    return again._replace(importance=again.importance._replace(k_hat=k_hat)), (1 + LOOK_AGAIN) * draws


def another_mode(normal: FullRankNormal, log_evidence: float, paths: list[Path]) -> Path | None:
    """The best normal on the ascents that is `elsewhere` and holds at least exp(-LESS) of the evidence; None without
    one.
    """
    for path in paths:
        if elsewhere(path.normal, normal) and path.elbo > log_evidence - LESS:
            return path
    return None


def weights_of(scores: Scores, normal: Normal, n: int, seed: int) -> Weighed:
    """The importance weights of n draws of a normal, and the errors of the normal by them."""
    e = standard(n, normal, generator(seed, normal.mean))
    u = normal.at(e)
    found = importance(scores(u)[0] - normal.log_prob_at(e))
    mean, sd = weighted_moments(found.log_weights, u)
    return Weighed(found, (normal.mean - mean) / sd, normal.sd / sd, u)


def draws_for(density: Density) -> int:
    """How many draws importance weights are computed for: fewer where a gradient is dear."""
    if density.chunk < DEAREST:
        return FEWEST_DRAWS
    return DRAWS if density.chunk >= DEAR and len(density.first) * DRAWS <= NUMBERS else FEW_DRAWS


def cheap_values(density: Density) -> Scores:
    """The scores of a density without gradients, which are NaN: in a third to a tenth of the time."""

    def some_values(us: torch.Tensor) -> torch.Tensor:
        if density.vectorised and len(us) > 1:
            with suppress(ValueError, RuntimeError, ArithmeticError):  # at one of the points
                return torch.func.vmap(density.log_joint)(us).detach()
        return density.at_each(us)[0]

    def values(us: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = torch.cat([some_values(some) for some in us.split(2 * density.chunk)])
        return found, torch.full_like(us, math.nan)

    return values


def starting_points(density: Density, seed: int) -> torch.Tensor:
    """`dispersed` points (K, D) of a seed, as many as ascents are for so many latents."""
    n = PATHS if len(density.first) <= SEVERAL and density.chunk >= DEAR else FEWER
    with noise(seed):
        return dispersed(density, n)


def dispersed(density: Density, n: int) -> torch.Tensor:
    """Points (n, D), uniform on -2 to 2 in each coordinate, where the density is finite; `first` where none is.

    Each second one is minus the one before, which finds modes at u and -u.
    """
    half = torch.stack([uniform(density.first) for _ in range((n + 1) // 2)])
    tried = torch.stack([half, -half], 1).flatten(0, 1)[:n]
    values, gradients = density.at_each(tried)
    for _ in range(TRIES):
        bad = ~(values.isfinite() & gradients.isfinite().all(-1))
        if not bad.any():
            return tried
        tried[bad] = torch.stack([uniform(density.first) for _ in range(int(bad.sum()))])
        values, gradients = density.at_each(tried)
    return torch.where(bad[:, None], density.first, tried)


def cheap_hessians(density: Density) -> Hessians | None:
    """The Hessians of a density; None where they are dear (many latents), or where autograd does not find them.

    Autograd takes some gradients for constants (a value that was detached, an operation of one's own): the Hessian is
    compared with differences of gradients at one point.
    """
    u = density.first
    if len(u) > (min(NEWTON, PASSES * density.chunk) if density.vectorised else IN_A_LOOP):
        return None
    (found,) = density.hessians(u[None])
    reach, close = (1e-2, 0.1) if u.dtype == torch.float32 else (1e-5, 1e-3)
    shift = reach * (1 + u.abs()) * torch.tensor([1.0, -1.0], dtype=u.dtype, device=u.device).repeat(len(u))[: len(u)]
    _, (up, down) = density.at_each(torch.stack([u + shift, u - shift]))
    wanted, change = (up - down) / 2, found @ shift
    right = (change - wanted).norm() <= close * wanted.norm() + reach * close * up.norm()
    return density.hessians if found.isfinite().all() and right else None
