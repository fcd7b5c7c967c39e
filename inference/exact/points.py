"""Points at which a candidate is checked: draws of the posterior and wider ones, even, close and far points.

Even points are normal quantiles of Sobol's sequence (Sobol 1967, in torch: Joe and Kuo 2008), or in many dimensions of
a Latin hypercube (McKay, Beckman and Conover 1979). In each coordinate alone they are a grid, so a dent in the density
is missed only if it is narrower than the distance of two neighbours.

Close points are many more, for a model that runs at many points at once: a Latin hypercube over 6 prior sds on both
sides, and a coarser one over 12. A spike in one latent number is missed only if it is narrower than a step of its grid;
one that is narrow in several numbers together may be missed.
"""

import math
from typing import NamedTuple

import torch
from pyro.distributions import Dirichlet

from .block_posterior import Candidate
from .coordinates import ABOVE, FARTHEST, INTERVAL, LEAST, POSITIVE, REAL, SIMPLEX, Values
from .log_joint import values_in
from .problem import Problem

REACH = 4.0  # powers of ten beyond the wider of prior and posterior, of real latents
REACHES = {POSITIVE: 25.0, ABOVE: 15.0, INTERVAL: 30.0, SIMPLEX: 26.0}  # in coordinates, of the other supports
FAR = (True, False)  # the whole reach, and a random part of it
DRAWS = 64  # of the posterior, from which its mean and covariance in coordinates are estimated
WIDER = {"posterior": 1.5, "prior": 2.0}  # sd of the points over the sd of the distribution
FEW = 8  # up to so many dimensions: a Sobol sequence with the covariance; above: a hypercube
SPANS = {6.0: 1.0, 12.0: 0.25}  # prior sds that close points reach: the share of their number
PLACE = 0.1  # prior sds of the coordinates; points that are nearer to each other are in one place
MIDDLE = 2.0  # prior sds, within which the distances of points are measured


class Checked(NamedTuple):
    """At how many points a closed form was checked, and how far apart they are, in prior sds.

    apart: between neighbours, within 2 prior sds of the prior mean, in the latent number where they are farthest.
    """

    points: int
    apart: float

    def __str__(self) -> str:
        spikes = f", at most {self.apart:.2g} prior sds apart" if math.isfinite(self.apart) else ""
        return f"checked at {self.points:,} points{spikes}"


def near(problem: Problem, candidates: list[Candidate], width: float) -> Values:
    """One draw of the posterior, this many times as wide."""
    drawn: dict[str, torch.Tensor] = {}
    for candidate in candidates:
        if candidate.posterior is not None:
            drawn.update(candidate.posterior.sample_wider(width))
    return problem.coordinates.values(problem.coordinates.flat(drawn))


def even(problem: Problem, candidates: list[Candidate], n: int) -> list[torch.Tensor]:
    """n points x (D,), in turn over posterior and prior; an eighth of them are new draws of the prior."""
    if n == 0:
        return []
    f, coordinates = problem.log_joint, problem.coordinates
    posteriors = [c.posterior for c in candidates if c.posterior is not None]
    drawn = {name: z for q in posteriors for name, z in q.sample(DRAWS).items()}
    parts = [v.transform.inv(drawn[name]).reshape(DRAWS, -1) for name, v in coordinates.variables.items()]
    posterior = torch.cat(parts, 1).nan_to_num(0.0, 0.0, 0.0)
    own = [coordinates.flat(values_in(f.trace(f.held), coordinates.variables)) for _ in range(n // 8)]
    prior = torch.stack([*problem.starts, *own])
    half = (n - len(own) + 1) // 2
    over = [_spread(posterior, half, WIDER["posterior"]), _spread(prior, half, WIDER["prior"])]
    if coordinates.size > FEW:  # in many dimensions, independent coordinates miss the region of correlated ones
        for i in range(0, half, 2):
            over[0][i] = coordinates.flat(near(problem, candidates, 1.0 + i / half))
    return [*own, *(coordinates.inside(x) for pair in zip(*over, strict=True) for x in pair)][:n]


def _spread(draws: torch.Tensor, n: int, wider: float) -> torch.Tensor:
    """Even points (n, D) with the mean and covariance of these draws (M, D), their sds times `wider`."""
    D = draws.shape[1]
    seed = int(torch.randint(2**31, ()))
    if D <= FEW:
        u = torch.quasirandom.SobolEngine(D, scramble=True, seed=seed).draw(n, dtype=torch.float64)
    else:
        u = (torch.rand(n, D, dtype=torch.float64).argsort(0) + torch.rand(n, D, dtype=torch.float64)) / n
    steps = wider * torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9))
    sd = draws.std(0).clamp(min=1e-12)
    if 1 < D <= FEW and len(draws) > 2 * D:
        factor, failed = torch.linalg.cholesky_ex(((draws - draws.mean(0)) / sd).T.cov())
        steps = steps if failed else steps @ factor.T
    return draws.mean(0) + sd * steps


def wide(problem: Problem, candidates: list[Candidate]) -> list[torch.Tensor]:
    """Points x (D,) far beyond prior and posterior, on both sides of each coordinate."""
    coordinates, starts = problem.coordinates, problem.starts
    here = coordinates.flat(near(problem, candidates, 1.0))
    sd = torch.stack([coordinates.flat(near(problem, candidates, 1.0)) for _ in range(2)]).sub(here).abs().amax(0)
    scale = torch.maximum(sd, (torch.stack(starts) - starts[0]).abs().amax(0))
    points = []
    for far in FAR:
        side = torch.randn_like(here).sign()
        share = torch.ones_like(here) if far else torch.rand_like(here)
        step = scale * 10 ** (REACH * share)
        middle = here.clone()
        for v in coordinates.variables.values():
            if v.support != REAL:
                step[v.part] = REACHES[v.support] * share[v.part]
                middle[v.part] *= float(v.support == POSITIVE)
        points += [coordinates.inside(middle + side * step), coordinates.inside(middle - side * step)]
    return points


def close_points(problem: Problem, prior: torch.Tensor, n: int) -> torch.Tensor:
    """n points x (n, D) near the prior, and some more in its tails. prior: draws of it, (M, D)."""
    return torch.cat([_hypercube(problem, prior, int(share * n), span) for span, share in SPANS.items()])


def _hypercube(problem: Problem, prior: torch.Tensor, n: int, span: float) -> torch.Tensor:
    parts = []
    for v in problem.coordinates.variables.values():
        if v.support == SIMPLEX:
            z = Dirichlet(torch.ones(v.shape[-1], dtype=prior.dtype)).sample((n, *v.shape[:-1])).clamp(min=LEAST)
            z = z / z.sum(-1, keepdim=True)
        else:
            drawn = v.transform(prior[:, v.part])
            mean, reach = drawn.mean(0), span * drawn.std(0)
            low, high = (mean - reach).clamp(min=v.low), (mean + reach).clamp(max=v.high)
            order = torch.rand(n, len(mean), dtype=prior.dtype).argsort(0)
            z = low + (order + torch.rand(len(mean), dtype=prior.dtype)) / n * (high - low)
            z = z.reshape(n, *v.free)
        x = v.transform.inv(z).reshape(n, -1)
        parts.append(x.clamp(-FARTHEST.get(v.support, math.inf), FARTHEST.get(v.support, math.inf)))
    return torch.cat(parts, 1)


def distinct(points: torch.Tensor) -> int:
    """How many of these points (n, D) there are, where those that agree to single precision are one."""
    return len(points.float().unique(dim=0))


def scattered(prior: torch.Tensor, points: torch.Tensor, most: int) -> list[torch.Tensor]:
    """The first of points (n, D) and those after it that are in other places, `most` at most. prior: (M, D).

    Two are in one place if no coordinate differs by PLACE prior sds: what rounding does to a point it does to its
    neighbours, which would leave no room for the points of another place.
    """
    found: list[torch.Tensor] = []
    sd = prior.std(0).clamp(min=1e-300)
    while len(points) and len(found) < most:
        found.append(points[0])
        points = points[((points - points[0]).abs() / sd).amax(1) > PLACE]
    return found


def apart(problem: Problem, prior: torch.Tensor, points: torch.Tensor) -> float:
    """The largest distance of neighbours among points (n, D), in any latent number, in prior sds. prior: (M, D)."""
    widest = 0.0
    for v in problem.coordinates.variables.values():
        drawn, z = (v.transform(x[:, v.part].reshape(len(x), *v.free)).reshape(len(x), -1) for x in (prior, points))
        scaled = ((z - drawn.mean(0)) / drawn.std(0).clamp(min=1e-300)).clamp(-MIDDLE, MIDDLE)
        low, high = ((torch.as_tensor(end) - drawn.mean(0)) / drawn.std(0) for end in (v.low, v.high))
        ends = [low.clamp(min=-MIDDLE, max=MIDDLE)[None], high.clamp(min=-MIDDLE, max=MIDDLE)[None]]
        widest = max(widest, torch.cat([scaled, *ends]).sort(0).values.diff(dim=0).max().item())
    return widest if widest < MIDDLE else math.inf
