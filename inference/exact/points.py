"""Where a proof looks: at draws of the posterior and wider ones, over posterior and prior evenly, and far beyond both.

Even points are normal quantiles of Sobol's sequence (Sobol 1967, in torch: Joe and Kuo 2008), or in many dimensions of
a Latin hypercube (McKay, Beckman and Conover 1979): in each coordinate alone they are a grid, so that a dent in one of
them lies between no two of them unless it is narrower than their distance.
"""

import torch

from .belief import Fitted
from .coordinates import ABOVE, INTERVAL, POSITIVE, REAL, SIMPLEX, Coordinates, Values
from .log_joint import LogJoint, values_in

REACH = 4.0  # powers of ten beyond the wider of prior and posterior, of real latents


REACHES = {POSITIVE: 25.0, ABOVE: 15.0, INTERVAL: 30.0, SIMPLEX: 26.0}  # of the coordinates of others


FAR = (True, False)  # all the way, and a random part of it


DRAWS = 64  # of the posterior, for its place and width in coordinates


WIDER = {"posterior": 1.5, "prior": 2.0}  # sds of the points, in sds


FEW = 8  # dimensions in which covariance counts and a sequence beats a hypercube


def near(where: Coordinates, fits: list[Fitted], width: float) -> Values:
    """A draw of q, so many times as wide."""
    found: dict[str, torch.Tensor] = {}
    for fit in fits:
        if fit.belief is not None:
            found.update(fit.belief.widened(width))
    return where.values(where.flat(found))


def even(f: LogJoint, where: Coordinates, fits: list[Fitted], starts: list[torch.Tensor], n: int) -> list[torch.Tensor]:
    """n points x in turn over posterior and prior, a few of them draws of it."""
    if n == 0:
        return []
    beliefs = [fit.belief for fit in fits if fit.belief is not None]
    drawn = {name: z for belief in beliefs for name, z in belief.sample(DRAWS).items()}
    parts = [v.transform.inv(drawn[name]).reshape(DRAWS, -1) for name, v in where.variables.items()]
    posterior = torch.cat(parts, 1).nan_to_num(0.0, 0.0, 0.0)
    own = [where.flat(values_in(f.trace(f.held), where.variables)) for _ in range(n // 8)]
    prior = torch.stack([*starts, *own])
    half = (n - len(own) + 1) // 2
    over = [_spread(posterior, half, WIDER["posterior"]), _spread(prior, half, WIDER["prior"])]
    if where.size > FEW:  # there independent coordinates are far from where correlated ones are
        for i in range(0, half, 2):
            over[0][i] = where.flat(near(where, fits, 1.0 + i / half))
    return [*own, *(where.inside(x) for pair in zip(*over, strict=True) for x in pair)][:n]


def _spread(draws: torch.Tensor, n: int, wider: float) -> torch.Tensor:
    """(n, D), as wide as these draws (M, D) and evenly so."""
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


def wide(where: Coordinates, fits: list[Fitted], starts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Points far beyond prior and posterior, each coordinate by itself and to both of its sides."""
    here = where.flat(near(where, fits, 1.0))
    sd = torch.stack([where.flat(near(where, fits, 1.0)) for _ in range(2)]).sub(here).abs().amax(0)
    scale = torch.maximum(sd, (torch.stack(starts) - starts[0]).abs().amax(0))
    points = []
    for far in FAR:
        side = torch.randn_like(here).sign()
        share = torch.ones_like(here) if far else torch.rand_like(here)
        step = scale * 10 ** (REACH * share)
        middle = here.clone()
        for v in where.variables.values():
            if v.support != REAL:
                step[v.part] = REACHES[v.support] * share[v.part]
                middle[v.part] *= float(v.support == POSITIVE)
        points += [where.inside(middle + side * step), where.inside(middle - side * step)]
    return points
