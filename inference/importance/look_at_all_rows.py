"""The look at a fit whose rows do not fit into memory, by all of them, read chunk by chunk.

    modes                Newton's steps on all rows, from the guide and from where ascents on some rows end
    the guide's draws    log w_s = log p(data, z_s) - log q(z_s)
    a mixture there      log w_s = log p(data, u_s) - log r(u_s)      r: normals at the modes

A fit by batches of B of N rows ends about sqrt(N / (B T)) sds beside the posterior: Newton's steps go the rest of the
way. log p near the modes is that of `near.py`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from ..gaussian.density import prepared
from ..gaussian.full_rank import cheap_hessians, starting_points
from ..gaussian.full_rank_normal import ELSEWHERE, FullRankNormal, generator
from ..gaussian.psis import EVEN, Importance, importance
from ..gaussian.starts import pathfinder
from ..runtime.defaults import default_dtype
from ..runtime.state import entered
from ..runtime.vectorise import is_out_of_memory
from ..streaming.source import Source
from .adapted import around
from .all_rows import AllRows, NotARow, refuse_dependent
from .budget import OutOfTime, clock, deadline
from .chart import Chart
from .correct_fit import GOOD, THIN, Look, unconstrained, with_parameters
from .correction import Correction, alike, disagreement, too_few
from .guide_draws import GuideDraws, guide_draws_weighed, in_double
from .improper import SEARCHED, improper
from .near import CHUNKS, ERROR, ROWS, Near, values_near
from .newton import Quadratic, mode_of_all_rows, second_order

DRAWS = 2000
NEWTONS = 3  # passes through all rows, about
LOOSE = 3.0  # times the seconds that a look may take: its price was taken from one chunk
NEAR = 20.0  # nats below the guide's mode, within which another mode may hold mass


class TooLong(ValueError):
    """Raised where a look at all rows takes longer than it may."""


class Drawn(NamedTuple):
    """Draws with their weights by all rows."""

    us: torch.Tensor  # (S, D), in unconstrained space
    log_joints: torch.Tensor  # log p(data, u) (S,), nats
    importance: Importance
    error: float  # nats of a log weight that matters, at most


def look_at_all_rows(fit: Any, source: Source, *, seconds: float, seed: int = 0, bar: Any = None) -> Look | str:
    """A look at a fit, by all rows of this source, of about so many seconds of CPU; in words why there is none.

    fit: with some of the rows as its data. bar: a progress bar over chunks.
    Raises TooLong where it takes more time, which it names.
    """
    fit = in_double(fit)
    guide = guide_draws_weighed(fit, DRAWS, seed + 1)
    try:
        density, state, _ = prepared(with_parameters(fit), fit.data, fit.state.device, seed)
    except (ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        return str(error).partition("\n")[0]
    if len(density.first) > SEARCHED:
        return f"{len(density.first):,} latents, and a look takes {SEARCHED} at most"
    if set(density.names) != set(guide.values):
        return "the guide draws finite latents, which a look sums out"
    with entered(state), default_dtype(density.first.dtype):
        rows = AllRows(density, source, None, bar)
        try:
            us = unconstrained(density, guide.values)
            refuse_dependent(rows, us[:2])
            _refuse_too_long(rows, us, seconds)
            by = deadline(LOOSE * seconds, fit.state.device)
            return _look(rows._replace(by=by), guide, us, seed)
        except NotARow as error:
            return str(error)
        except OutOfTime:
            raise TooLong(f"a look at all rows takes more than {LOOSE * seconds:.3g} seconds of CPU") from None


def _look(rows: AllRows, guide: GuideDraws, us: torch.Tensor, seed: int) -> Look | str:
    density = rows.density
    modes: list[Quadratic] = []
    for start in [us.mean(0), *_elsewhere(rows, us.mean(0), seed)]:
        mode = mode_of_all_rows(rows, start)
        if mode is None and not modes:
            return "Newton's steps on all rows come to no mode from the guide"
        if mode is not None and not any(alike(mode.normal, one.normal) for one in modes):
            modes.append(mode)
    near = Near(rows, modes, True, seed)
    own = _drawn(near._replace(exactly=False), us, Chart(density).values(us).double() - guide.log_weights)
    guide = guide._replace(log_weights=own.importance.log_weights + own.importance.log_evidence)
    found, values, drawn = own.importance, guide.values, own
    good = own.error < ERROR and found.leaves(GOOD) and (found.k_hat <= THIN or found.ess >= EVEN * len(us))
    if not good or len(modes) > 1:
        mixture = around([mode.normal for mode in modes])
        us = mixture.sample(DRAWS, generator(seed + 11, us))
        drawn = _drawn(near, us, mixture.log_prob(us))
        values = density.constrained(us)
    wrong = _improper(near._replace(exactly=False), drawn)
    if drawn is not own and own.error < ERROR and found.reliable and found.log_evidence > drawn.importance.log_evidence:
        wrong = wrong or disagreement(drawn.importance, [found])  # the guide has mass that the mixture missed
    doubt = wrong or too_few(drawn.importance, len(drawn.us))
    return Look(guide, found, Correction(values, drawn.importance, doubt, wrong=bool(wrong)), "", density.transforms)


def _drawn(near: Near, us: torch.Tensor, log_q: torch.Tensor) -> Drawn:
    """The weights of draws whose log density in unconstrained space is log_q (S,)."""
    log_joints, error = values_near(near, us, log_q)
    return Drawn(us, log_joints, importance(log_joints - log_q), error)


def _elsewhere(rows: AllRows, center: torch.Tensor, seed: int) -> Iterator[torch.Tensor]:
    """Points (D,) from which Newton's steps on all rows may come to another mode than that by the center of the guide.

    Ascents on the rows at hand end there, and on all rows the density is not much lower than where one ends by the
    guide.
    """
    density = rows.density
    paths = pathfinder(Chart(density).scores, starting_points(density, seed), cheap_hessians(density), seed=seed)
    ends = [path.normal for path in paths if path.elbo > paths[0].elbo - NEAR]

    def by_the_guide(normal: FullRankNormal) -> bool:
        return bool(((normal.mean - center).abs() < ELSEWHERE * normal.sd).all())

    here = next((normal for normal in ends if by_the_guide(normal)), None)
    apart: list[FullRankNormal] = []
    for normal in ends:
        if not by_the_guide(normal) and not any(alike(normal, other) for other in apart):
            apart.append(normal)
    if apart:
        points = [center if here is None else here.mean, *(normal.mean for normal in apart)]
        values = rows.values(torch.stack(points))
        for value, normal in zip(values[1:], apart, strict=True):
            if here is None or value > values[0] - NEAR:
                yield normal.mean


def _improper(near: Near, drawn: Drawn) -> str:
    weights = drawn.importance.log_weights.exp().to(drawn.us)
    mean = weights @ drawn.us
    return improper(near, mean, (drawn.us - mean) * weights.sqrt()[:, None], drawn.log_joints)


def _refuse_too_long(rows: AllRows, us: torch.Tensor, seconds: float) -> None:
    """Raises TooLong if the price of one chunk says that a look takes more seconds of CPU."""
    device, count = rows.density.first.device, len(rows.source.chunks)
    read = newton = values = 0.0
    for _ in range(2):  # the first is dearer
        begun = clock(device)
        density, _ = next(rows.some([0]))
        few, _ = next(rows.some([0], ROWS))
        read, begun = (clock(device) - begun) / 2, clock(device)
        second_order(density, us[0], rows)
        newton, begun = clock(device) - begun, clock(device)
        Chart(few).values(us)
        values = clock(device) - begun
    needed = NEWTONS * count * (read + newton) + min(count, CHUNKS) * 2 * (read + newton + values)
    if needed > seconds:
        raise TooLong(
            f"a look at all rows takes about {max(1.0, needed):,.0f} seconds of CPU, and {seconds:.3g} are given"
        )
