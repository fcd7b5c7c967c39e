"""Checks that candidates are the posterior: log p(data, z) - log q(z) must be one number, which is log p(data).

The check evaluates it at draws of q and at draws 3 and 10 times as wide, at many points over posterior and prior, and
far beyond both, where a kink or a heavier tail would show, and at many points at once that are close to each other,
where a spike would show (see `points`). Only rounding errors of the sums may make it vary.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch

from .block_posterior import Candidate
from .coordinates import Values
from .points import Checked, apart, close_points, distinct, even, near, scattered, wide
from .problem import Problem
from .refusal import refusal

NEAR = (1.0, 1.0, 3.0, 3.0)  # widths of the draws, relative to q
AWAY = 10.0  # the same
ROUNDING = 2.0**10 * torch.finfo(torch.float64).eps  # of a sum, relative to the sum of its absolute terms
EDGE = 32.0  # times the rounding error, away from the posterior: near -1, torch's log1p is off by 5e-12 of its value
FLOOR = 1e-10  # nats
LARGEST = 0.1  # nats of rounding error, beyond which a closed form cannot be told from another
JITTER = 64.0  # times the change of the residual when z moves by a few units in the last place
SUSPICIOUS = 0.01  # nats by which one of the close points differs that is then checked up to rounding
MOST = 8  # points that are checked so, no two of them in one place
CHUNK = 2**22  # numbers in a run of the model, times points


class Residual(NamedTuple):
    """log p(data, z) - log q(z) at one point, in nats; infinite or NaN where p(data, z) is zero or undefined."""

    value: float
    error: float  # bound of its rounding error
    z: Values


def prove(
    problem: Problem, candidates: list[Candidate], n: int, close: int = 0, numbers: int = 1
) -> tuple[float, Checked]:
    """(log p(data) in nats, where it was checked). n: even points over posterior and prior. close: points at once.

    numbers: in a run of the model. Raises NoClosedForm if the candidates are not the posterior.
    """
    coordinates = problem.coordinates
    with torch.no_grad():
        if any(c.posterior is None for c in candidates):
            raise refusal(problem, candidates)
        around = [residual(problem, candidates, near(problem, candidates, width)) for width in NEAR]
        log_evidence = (around[0].value + around[1].value) / 2
        error = max(around[0].error, around[1].error)
        if not error < LARGEST:
            raise refusal(problem, candidates, around[0].z, error)
        for point in around:
            if not agrees(problem, candidates, point, log_evidence, error):
                raise refusal(problem, candidates, point.z, abs(point.value - log_evidence))
        away = [coordinates.flat(near(problem, candidates, AWAY)), *problem.starts[1:], *wide(problem, candidates)]

        certain = EDGE * FLOOR + error  # nats: no bound of a rounding error is smaller

        def check(points: list[torch.Tensor]) -> None:
            """Those that are off up to rounding at the most, at once; the others one by one."""
            xs = torch.stack(points) if points else None
            off = None if xs is None else off_at_once(problem, candidates, xs, log_evidence, numbers)
            for i, x in enumerate(points):
                if off is not None and off[i] <= certain:
                    continue
                point = residual(problem, candidates, coordinates.values(x))
                if not agrees(problem, candidates, point._replace(error=EDGE * point.error), log_evidence, error):
                    raise refusal(problem, candidates, point.z, abs(point.value - log_evidence))

        spread = even(problem, candidates, n)
        check([*away, *spread])
        prior = torch.stack([*problem.starts, *spread[: n // 8]])
        checked, total = torch.stack([*problem.starts, *spread]), len(around) + len(away) + len(spread)
        if close:
            xs = close_points(problem, prior, close)
            if (off := off_at_once(problem, candidates, xs, log_evidence, numbers)) is not None:
                suspicious = off.argsort(descending=True)[: int((off > SUSPICIOUS).sum())]
                check(scattered(prior, xs[suspicious], MOST))
                checked, total = xs, total + distinct(xs)
        return log_evidence, Checked(total, apart(problem, prior, checked))


def residual(problem: Problem, candidates: list[Candidate], z: Values) -> Residual:
    """log p(data, z) - log q(z) at these values, with its rounding error."""
    total, magnitude = problem.log_joint(z)
    posteriors = [c.posterior for c in candidates if c.posterior is not None]
    log_q = sum((q.log_prob(z) for q in posteriors), torch.zeros((), dtype=torch.float64)).item()
    error = FLOOR + ROUNDING * (magnitude + sum(q.magnitude(z) for q in posteriors))
    return Residual(total.item() - log_q, error, z)


def agrees(problem: Problem, candidates: list[Candidate], point: Residual, log_evidence: float, error: float) -> bool:
    """Whether a residual equals log p(data) up to rounding, which is measured where the bound does not suffice."""
    off = abs(point.value - log_evidence)
    if not off < float("inf"):
        return False
    if off <= point.error + error:
        return True
    jitter = 0.0
    for sign in (1, -1, 2):
        moved = {
            name: z * (1 + sign * 4 * torch.finfo(z.dtype).eps * torch.randn_like(z)) for name, z in point.z.items()
        }
        jitter = max(jitter, abs(residual(problem, candidates, moved).value - point.value))
    return jitter < float("inf") and off <= point.error + error + JITTER * jitter


def off_at_once(
    problem: Problem, candidates: Sequence[Candidate], xs: torch.Tensor, log_evidence: float, numbers: int
) -> torch.Tensor | None:
    """|log p(data, z) - log q(z) - log_evidence| at these points xs (n, D), nats (n,), infinite where it is NaN.

    None where the model does not run at many points at once. numbers: in a run of the model.
    """
    posteriors = [c.posterior for c in candidates if c.posterior is not None]

    def off(x: torch.Tensor) -> torch.Tensor:
        z = problem.coordinates.values(x)
        log_q = sum((q.log_prob(z) for q in posteriors), torch.zeros((), dtype=torch.float64))
        return problem.log_joint.total(z) - log_q - log_evidence

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns where it falls back to a loop
            found = torch.vmap(off, chunk_size=max(1, CHUNK // numbers))(xs)
    except Exception:
        return None
    return found.abs().nan_to_num(torch.inf)
