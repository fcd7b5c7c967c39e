"""The gain in ELBO between two points of a run's parameters, and the gradient of -ELBO at one.

A gain also says how far the answer moved: the largest difference of the mean of a latent, in sds of the guide's draws.
An ELBO of many nats that is a little blurred, by noise or by rounding, hides moves that the draws show.
The measurements leave the parameters and the generators as they were.
"""

from typing import NamedTuple

import torch
from pyro import poutine

from ..objective.elbo import differentiable_loss, log_weights
from ..objective.gradients import flat_gradient
from ..pair.batches import Rows, batch
from ..pair.pair import Pair
from ..planning.plan import Plan
from ..runtime.generators import noise
from ..runtime.parameters import flat_parameters, place_parameters, unconstrained
from ..runtime.sites import latent
from ..runtime.vectorise import at_once, repeat

TOLERANCE = 1e-3  # nats for ten latent numbers or fewer: a smaller gain is no gain
DRAWS = 32  # of the guide in a chunk; chunks are added while the sign of a gain is in doubt
CHUNKS = 4  # at most
FIRST = 8  # draws in a chunk where they are dear: of many latent numbers, as in networks, or with much data
SURE, SURER = 4, 8  # errors, beyond which the sign of a gain is clear; after fewer draws, and looks in between
LITTLE = 0.125  # of the tolerance: an error at which a gain is known well enough
FEW, MORE = 150, 8  # up to so many latent numbers, whose ELBO is accurate to 0.01 nats, so many times the chunks
SLOPE, BATCHES = 128, 8  # draws of a gradient for few latent numbers; batches of one where the data is large
NUMBERS = 2**22  # of the data, counted once for each of these draws: more draws would take seconds
WHOLE = 2**18  # numbers of data up to which a gain is measured on all rows, though steps take batches


class Gain(NamedTuple):
    """A difference of two ELBOs, its Monte Carlo error, and the rounding error of the ELBOs themselves; nats.

    latents: how many latent numbers there are; the tolerance grows with them. unsteady: whether it is no rounding, but
    a program that gives another ELBO each time. moved: the largest difference of the mean of a latent, in its sds; 0
    for more than FEW latent numbers, as the weights of networks, and where it is not known.
    """

    nats: float
    error: float
    rounding: float
    latents: int = 1
    unsteady: bool = False
    moved: float = 0.0

    @property
    def tolerance(self) -> float:
        return max(TOLERANCE * max(1.0, self.latents / 10), 2 * self.rounding)


class Better(NamedTuple):
    """A better point of the parameters, shape (P,), what it gains in nats, and the parameter that lies furthest off.

    scale: 1 / sqrt(second derivative of -ELBO) of each parameter there, shape (P,); None where it is not known.
    """

    point: torch.Tensor
    nats: float
    parameter: str
    scale: torch.Tensor | None = None


class Elbo(NamedTuple):
    """The ELBO as a function of the parameters, and how to estimate it."""

    pair: Pair  # on all data
    plan: Plan
    vectorised: bool  # whether `vmap` makes the draws at once
    rows: Rows | None = None  # how the data is cut into batches; if it is large, each draw sees its own batch
    latents: int = 1  # how many latent numbers there are, for the tolerance
    particles: int = 1  # draws in a step of the run


def elbo_gain(elbo: Elbo, new: torch.Tensor, old: torch.Tensor, *, seed: int) -> Gain:
    """ELBO(new) - ELBO(old) in nats, estimated from draws that share their noise.

    new, old: flat unconstrained parameters, shape (P,). Large data gets fewer draws, as the error of the gain shows.
    """
    pair, plan, vectorised, rows, latents, _ = elbo
    leaves = list(unconstrained().values())
    now = flat_parameters(leaves)
    new, old = new.to(now.dtype), old.to(now.dtype)  # sums of iterates are in double precision
    rows = None if _is_small(pair, rows) else rows
    fewest = FIRST if latents > FEW or (rows is None and numbers(pair) > WHOLE) else DRAWS
    draws = fewest if rows is None else 1
    least = CHUNKS * DRAWS // draws
    chunks = (least if latents > FEW else MORE * least) if rows is None else 2 * DRAWS
    known = max(TOLERANCE, LITTLE * Gain(0.0, 0.0, 0.0, latents).tolerance)
    if rows is None:
        affordable = 16 * NUMBERS // (draws * max(1, numbers(pair)))
        chunks = min(chunks, max(CHUNKS if latents > FEW else least, affordable))
    quiet = plan.with_term("analytic KL").recipe

    def log_weights_at(point: torch.Tensor, chunk: int) -> torch.Tensor:
        place_parameters(point, leaves)
        with noise(seed + chunk):
            part = pair if rows is None else batch(pair, rows, torch.randperm(rows.n)[: rows.size])
            parts = torch.ones(draws).split(fitting)  # as many draws at once as memory has room for
            return torch.cat([log_weights(part, len(p), vectorised, quiet) for p in parts])

    differences: list[torch.Tensor] = []
    try:
        with torch.no_grad():
            with noise(seed):
                fitting = at_once(lambda: log_weights(pair, 1, False, quiet)) if draws > 1 else 1
            first = log_weights_at(old, 0)
            for chunk in range(chunks):
                after = log_weights_at(new, chunk)
                differences.append(after - (first if chunk == 0 else log_weights_at(old, chunk)))
                d = torch.cat(differences)
                error = (d.std() / len(d) ** 0.5).item() if len(d) >= fewest else torch.inf
                sure = SURE if latents > FEW or len(d) % DRAWS == 0 else SURER
                if d.mean().abs() > sure * error or error < known:
                    break
            # A change by one unit in the last place of the parameters is no gain but rounding.
            rounded = log_weights_at(old * (1 + 2 * torch.finfo(old.dtype).eps), 0)
            rounding = (rounded - first).mean().abs().item()
            # Of the same number twice there is no rounding: then the program counts, or draws noise of its own.
            # An accelerator may add in another order each time.
            steady = rounding / (100 if first.device.type == "cpu" else 10)
            unsteady = rounding > TOLERANCE and any(  # twice, since noise may happen to be the same once
                bool((log_weights_at(old, 0) - first).mean().abs() > steady) for _ in range(2)
            )
            moved = _moved(elbo, new, old, leaves, seed) if latents <= FEW and rows is None else 0.0
    finally:
        place_parameters(now, leaves)
    rounding = max(rounding, torch.finfo(first.dtype).eps * first.mean().abs().item())
    return Gain(d.mean().item(), error, rounding, latents, unsteady, moved)


def _moved(elbo: Elbo, new: torch.Tensor, old: torch.Tensor, leaves: list[torch.Tensor], seed: int) -> float:
    """The largest difference between the means of a latent at two points, in sds, from draws that share their noise."""

    def latents_at(point: torch.Tensor) -> dict[str, torch.Tensor]:
        place_parameters(point, leaves)
        with noise(seed):
            return repeat(lambda: _values(elbo.pair), DRAWS, elbo.vectorised)

    largest, before = 0.0, latents_at(old)
    for name, after in latents_at(new).items():
        if name in before and before[name].shape == after.shape and after.is_floating_point():
            sd, difference = after.std(0), (after.mean(0) - before[name].mean(0)).abs()
            moves = (difference / sd)[(sd > 0) & sd.isfinite() & difference.isfinite()]
            largest = max(largest, moves.max().item() if moves.numel() else 0.0)
    return largest


def _values(pair: Pair) -> dict[str, torch.Tensor]:
    """One draw of the latents that the guide draws."""
    trace = poutine.trace(pair.guide).get_trace(*pair.data)
    return {name: site["value"] for name, site in latent(trace).items()}


def elbo_gradient(elbo: Elbo, point: torch.Tensor, *, seed: int) -> torch.Tensor:
    """The gradient of -ELBO at a point, estimated by the plan of the run; the same seed has the same noise.

    point: flat unconstrained parameters, shape (P,); so is the gradient, in double precision.
    """
    pair, plan, vectorised, rows, latents, particles = elbo
    leaves = list(unconstrained().values())
    now = flat_parameters(leaves)
    whole = rows is None or _is_small(pair, rows)
    draws = max(particles, min(SLOPE, NUMBERS // max(1, numbers(pair)))) if latents <= FEW else particles
    together = draws if whole and vectorised else particles
    parts = draws // together if whole else BATCHES

    def loss() -> torch.Tensor:
        here = pair if whole or rows is None else batch(pair, rows, torch.randperm(rows.n)[: rows.size])
        return differentiable_loss(plan.recipe, here, together, vectorised)[1]

    try:
        place_parameters(point.to(now.dtype), leaves)
        with noise(seed):
            total = torch.stack([flat_gradient(loss).double() for _ in range(parts)]).mean(0)
    finally:
        place_parameters(now, leaves)
    return total


def _is_small(pair: Pair, rows: Rows | None) -> bool:
    """Whether a look sees all rows, where those at hand are all."""
    return not (rows is not None and rows.total) and numbers(pair) <= WHOLE


def numbers(pair: Pair) -> int:
    return sum(v.numel() for v in pair.data if isinstance(v, torch.Tensor))
