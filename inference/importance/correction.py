"""Weighted draws of a posterior, which correct a fit: where they can be trusted they are right though its guide is not.

    u_s ~ r,  w_s = p(data, u_s) / r(u_s)      r: a mixture around the fit, around other modes, and wider ones

A model of groups gets a second look with its groups decentred (see `chart.py`). Both estimate log p(data): where they
disagree, the smaller one has missed mass.
"""

from contextlib import nullcontext, suppress
from typing import NamedTuple

import torch

from ..gaussian.density import Density, uniform
from ..gaussian.full_rank import LESS, cheap_hessians
from ..gaussian.full_rank_normal import FullRankNormal, elsewhere, generator, standard
from ..gaussian.psis import Importance, importance
from ..gaussian.starts import pathfinder
from ..runtime.generators import noise
from .adapted import ENOUGH, MOST, ROUNDS, Drawn, adapted
from .along import missed_along
from .budget import Deadline, OutOfTime, price
from .chart import Chart, decentred
from .improper import SEARCHED, improper
from .nested import nested

DRAWS = 4000
STARTS = 4
LEAST = 200.0  # effective draws
EVENLY = 0.7  # effective share of the draws at which weights that have a mean are trusted whatever their tail
SHARE = 0.05  # effective share of the draws of a mixture
HESSIANS, FEW = 50, 3  # Hessians, which the time that is left must pay for, if the ascents take any; if nodes do
THIN = 0.3  # k-hat, up to which weights tell the sds of heavy tails too
ALONG = 0.05  # of the mass along a latent, that draws may miss
MASS = 200  # draws that tell the mass of another mode
DISAGREE = 3.0  # errors of log p(data), between two estimates


class Correction(NamedTuple):
    """Weighted draws of the continuous latents of a model."""

    values: dict[str, torch.Tensor]  # {site: (S, *shape of the site)}
    importance: Importance
    doubt: str  # why they cannot be trusted; "" if they can
    few: bool = False  # whether they are worth too few draws, and nothing else speaks against them
    wrong: bool = False  # whether the posterior is improper, or has mass where draws seldom come

    @property
    def trusted(self) -> bool:
        """Whether the weighted draws are right."""
        return not self.doubt


class _Look(NamedTuple):
    chart: Chart
    drawn: Drawn
    doubt: str
    start: FullRankNormal
    missed: str = ""


def correction(
    density: Density,
    normals: list[FullRankNormal],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    search: bool = True,
    by: Deadline | None = None,
) -> Correction:
    """Weighted draws of a posterior, from normals in unconstrained space around it, in the state of the density.

    search: whether ascents from dispersed points look for other modes. by: the deadline. Raises OutOfTime where work
    is left that could change the answer.
    """
    looks = _looks(Chart(density, by=by), normals, draws, seed, search)
    best = max(looks, key=lambda look: (not look.doubt, look.drawn.importance.ess))
    evidence = best.drawn.importance.log_evidence
    more = [each for look in looks if (each := look.drawn.importance).log_evidence > evidence]  # mass that it missed
    others = [each for each in more if each.reliable]
    wrong = _improper(best) or best.missed or disagreement(best.drawn.importance, others)
    few = bool(best.doubt) and best.drawn.importance.reliable and not best.drawn.rounds and not wrong
    return Correction(best.chart.sites(best.drawn.us), best.drawn.importance, wrong or best.doubt, few, bool(wrong))


def _looks(chart: Chart, normals: list[FullRankNormal], draws: int, seed: int, search: bool) -> list[_Look]:
    """Looks from these normals, from other modes, and with groups decentred, until one is good."""
    looks, good = [], False
    other = decentred(chart.density, chart.by)
    if other is not None:  # a funnel as it is takes long to climb and to adapt to: only if nothing else will do
        if normals:
            looks.append(_look(chart, normals, draws, seed, rounds=0))
            good = not looks[0].doubt and looks[0].drawn.importance.ess >= ENOUGH * draws
        if not good and (found := _modes(other, seed, STARTS)):
            looks.append(_look(other, found, draws, seed))
            if not looks[-1].doubt:
                return looks
    searched = _modes(chart, seed, STARTS) if search else []
    if good and all(any(alike(mode, normal) for normal in normals) for mode in searched):
        thin = looks[0].drawn.importance.k_hat > THIN
        return [*looks, *(_given_few(chart, [*normals, *searched], draws, seed, wanted=True) if thin else [])]
    given = _given_few(chart, [*normals, *searched], draws, seed)
    if given and not given[0].doubt:  # in less time than a mixture is fitted, and worth more
        return [*looks, *given]
    return [*looks, *given, _look(chart, [*searched, *normals], draws, seed)]


def _given_few(chart: Chart, normals: list[FullRankNormal], draws: int, seed: int, wanted: bool = False) -> list[_Look]:
    """The look by nested Laplace around the first of these; none where another one holds mass, and none without time,
    or OutOfTime is raised where it is wanted."""
    around = normals[0]
    with nullcontext() if wanted else suppress(OutOfTime):
        if _newton(chart, FEW, wanted) and (drawn := nested(chart, around, draws=draws, seed=seed + 13)):
            others = [mode for mode in normals if elsewhere(mode, around)]
            if not any(_mass(chart, mode, seed) > drawn.importance.log_evidence - LESS for mode in others):
                return [_Look(chart, drawn, too_few(drawn.importance, draws), around)]
    return []


def _mass(chart: Chart, mode: FullRankNormal, seed: int) -> float:
    """log p(data) by draws of a normal, nats: the mass of its mode."""
    e = standard(MASS, mode, generator(seed, mode.mean))
    return importance(chart.values(mode.at(e)) - mode.log_prob_at(e)).log_evidence


def _look(chart: Chart, normals: list[FullRankNormal], draws: int, seed: int, rounds: int = ROUNDS) -> _Look:
    drawn = adapted(chart.values, normals, draws=draws, rounds=rounds, seed=seed + 11, by=chart.by)
    found, cut = drawn.importance, drawn.cut
    missed = _missed(chart, drawn, seed)
    doubt = missed or too_few(found, draws)
    if not doubt and drawn.rounds:  # the mixture was fitted to what it had seen: another one may see more
        again = adapted(chart.values, normals, draws=draws, seed=seed + 12, by=chart.by)
        doubt = disagreement(found, [again.importance])
        cut = again.cut and bool(doubt or not again.importance.reliable)  # one that is reliable and agrees settles it
    if cut:
        raise OutOfTime
    return _Look(chart, drawn, doubt, normals[0], missed)


def _missed(chart: Chart, drawn: Drawn, seed: int) -> str:
    """Why draws among many latents, to which no mixture is fitted, leave some of the mass out; "" if they do not."""
    if drawn.us.shape[1] <= MOST:
        return ""
    share = missed_along(chart.values, drawn, generator(seed + 14, drawn.us))
    return f"{share:.0%} of the mass along a latent is where draws seldom come" if share > ALONG else ""


def too_few(found: Importance, draws: int) -> str:
    """Why weights cannot be trusted by themselves; "" if they can."""
    if not found.reliable and not (found.k_hat < 1 and found.ess > EVENLY * draws):
        return f"k-hat {found.k_hat:.2f} of a wider mixture of normals around it, wanted at most {found.limit:.2f}"
    return f"{draws:,} weighted draws are worth {found.ess:.0f}" if found.ess < max(LEAST, SHARE * draws) else ""


def disagreement(found: Importance, others: list[Importance]) -> str:
    """Why an estimate of log p(data) is wrong beside others; "" if it is not. Mass that was missed makes it small."""
    for other in others:
        error = (found.log_evidence_error**2 + other.log_evidence_error**2) ** 0.5
        if abs(other.log_evidence - found.log_evidence) > DISAGREE * error + 0.02:
            return (
                f"two estimates of log p(data) disagree, {found.log_evidence:.2f} and {other.log_evidence:.2f} nats: "
                f"there is mass where draws seldom come"
            )
    return ""


def _modes(chart: Chart, seed: int, starts: int) -> list[FullRankNormal]:
    """The best normals along ascents from dispersed points, one of those that are alike."""
    first = chart.density.first
    if len(first) > SEARCHED:
        return []
    with noise(seed + 5):
        half = torch.stack([uniform(first) for _ in range(starts // 2)])
    points = torch.stack([half, -half], 1).flatten(0, 1)
    hessians = chart.hessians if _newton(chart) else None
    paths = pathfinder(chart.scores, points, hessians, seed=seed)
    kept: list[FullRankNormal] = []
    for path in paths:
        if path.elbo > paths[0].elbo - 20 and not any(alike(path.normal, other) for other in kept):
            kept.append(path.normal)
    return kept


def _newton(chart: Chart, hessians: int = HESSIANS, wanted: bool = False) -> bool:
    """Whether Hessians are taken: where they are known, and so many are cheap beside the time that is left.

    wanted: OutOfTime is raised where they are not cheap.
    """
    if chart.decentred:
        return False
    if chart.by is not None:
        first, D = chart.density.first, len(chart.density.first)
        each = price(lambda n: chart.scores(first.expand(n, -1)), min(D, chart.density.chunk), chart.by)
        if D * each > chart.by.left / hessians:
            if wanted:
                raise OutOfTime
            return False
    return cheap_hessians(chart.density) is not None


def alike(one: FullRankNormal, other: FullRankNormal) -> bool:
    """Whether their means differ by less than the smaller of their sds in each coordinate."""
    return bool(((one.mean - other.mean).abs() / torch.minimum(one.sd, other.sd)).max() < 1)


def _improper(look: _Look) -> str:
    """Why the posterior seems improper, by its draws; "" if it does not."""
    us, weights = look.drawn.us, look.drawn.importance.log_weights.exp().to(look.drawn.us)
    if look.drawn.importance.ess < 4 * us.shape[1]:  # few draws have all the weight: where it started
        return improper(look.chart, look.start.mean, look.start.factor.T, look.drawn.log_joints)
    mean = weights @ us
    return improper(look.chart, mean, (us - mean) * weights.sqrt()[:, None], look.drawn.log_joints)
