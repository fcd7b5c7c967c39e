"""Legal plans compete: the one with the least variance of the gradient times work per step wins, here and now.

    trace of the covariance of the gradient, in unconstrained coordinates     times     microseconds of one gradient

For equal work the error of a mean gradient is proportional to that product (Glynn and Whitt 1992). No fixed rule wins:
analytic KL is quietest at the start of a run, sticking the landing at its end. The variance is measured with seeded
draws and the work is counted (`work`): the same seed gives the same plan.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from pyro import poutine

from ..objective.elbo import differentiable_loss
from ..objective.gradients import flat_gradient
from ..pair.pair import Pair
from ..pair.summed_out import SUMMED_OUT
from ..pair.work import work
from ..runtime.generators import noise
from ..runtime.parameters import unconstrained
from ..runtime.probes import at_a_draw
from ..runtime.sites import Site
from .legal import BY_NAME
from .plan import Plan
from .table import Entry

DRAWS, FINAL = 16, 64  # gradients of each plan, and of the two best, at most
FEWEST = 4
TIMES = " times the variance x work"
CLEARLY = 0.9  # of the product: a change of plan has to gain a tenth
SECOND, TINY = 1e6, 1e-300  # microseconds; less than any product
GRID = (1, 2, 4, 8, 16, 32)  # particles
LITTLE, MORE, LONG = 1.2, 3.0, 1000.0  # times the work of one particle; microseconds


class Contest(NamedTuple):
    """What the plans of a race are measured on. pair: on its data, or on a batch of it.

    particles: draws of the guide in one gradient. vectorised: whether `vmap` makes them at once.
    """

    pair: Pair
    particles: int
    vectorised: bool


class Result(NamedTuple):
    """Measured gradients of one plan."""

    draws: torch.Tensor  # of the gradient, shape (n, P)
    microseconds: float  # of one, by counting

    @property
    def product(self) -> float:
        return self.draws.var(0).sum().item() * self.microseconds


def race(contest: Contest, plan: Plan, microseconds: float = SECOND, seed: int = 0, least: float = 0) -> Plan:
    """The plan whose estimators won, site by site; equal sites change together. The same object if there is no time.

    microseconds: how much counted work the race may cost. least: gradients that it may cost in any case.
    """
    pair, particles, vectorised = contest
    gradients = max(least, microseconds / at_a_draw(lambda _: work(_gradient(contest, plan))).eager)
    groups = [sites for sites in _alike(plan) if len(_rivals(plan, sites)) > 1]
    groups += [[]] if vectorised and particles > 1 and plan.pathwise else []  # no site's, but all draws in pairs
    runners = sum(len(_rivals(plan, sites)) for sites in groups)
    draws = int(min(DRAWS, gradients / 2 // max(1, runners)))
    final = max(draws, int(min(FINAL, gradients / 4 // max(1, len(groups)))))
    if draws < FEWEST:
        return plan
    known: dict[Plan, Result] = {}

    def product(rival: Plan, n: int) -> float:
        if rival not in known or len(known[rival].draws) < n:
            known[rival] = measured(contest, rival, n, seed)
        return known[rival].product

    best, slower = plan, []
    for sites in groups:
        rivals = _rivals(best, sites)
        first = min(rivals, key=lambda rival: product(rival, draws))
        if first != best and product(first, draws) < 2 * product(best, draws):  # near enough to measure again
            if product(first, final) < CLEARLY * product(best, final) or best not in rivals:
                best = first
        slower.append((sites, {r: product(r, draws) / max(product(best, draws), TINY) for r in rivals if r != best}))
    product(best, final)
    return with_measured(pair, _noted(best, slower), known[best])._replace(particles=particles)


def how_many(pair: Pair, plan: Plan, vectorised: bool) -> int:
    """How many particles: as many as come at three times the work of one; in a long step, at a fifth more."""
    fewest = 2 if plan.needs_score else 1  # two have a baseline in each other
    if not vectorised:
        return fewest
    two, four = (work_of(Contest(pair, n, True), plan, n > 2) for n in (2, 4))
    more = (four - two) / 2
    one = two - more  # a lone draw needs no vmap
    most = max(LITTLE * one, min(MORE * one, LONG))
    return max(fewest, *(n for n in GRID if one + (n - 1) * more <= most))


def work_of(contest: Contest, plan: Plan, has_run: bool = False) -> float:
    """Microseconds of one gradient that is replayed, counted. has_run: whether its program ran like this before."""
    return at_a_draw(lambda _: work(_gradient(contest, plan), has_run)).replayed


def measured(contest: Contest, plan: Plan, draws: int, seed: int) -> Result:
    """So many draws of the gradient, and the work of one."""
    gradient = _gradient(contest, plan)
    with noise(seed):
        microseconds = work_of(contest, plan)
        found = [at_a_draw(lambda _: gradient()) for _ in range(draws)]
        return Result(torch.stack(found).double(), microseconds)


def with_measured(pair: Pair, plan: Plan, result: Result) -> Plan:
    """The plan with its measured variances; a site's is that of the parameters that its distribution reads."""
    leaves = unconstrained()
    variances = result.draws.var(0).split([p.numel() for p in leaves.values()])
    entries = []
    with noise(0):
        sites: dict[str, Site] = dict(poutine.trace(pair.guide).get_trace(*pair.data).nodes)
    for e in plan.entries:
        if e.estimator == SUMMED_OUT or e.site not in sites:  # the latter of a branch
            entries.append(e)
            continue
        site = sites[e.site]
        density = site["fn"].log_prob(site["value"].detach()).sum()
        every = list(leaves.values())
        own = torch.autograd.grad(density, every, allow_unused=True, retain_graph=True) if density.requires_grad else ()
        found = [v.sum() for v, g in zip(variances, own, strict=True) if g is not None] if own else []
        entries.append(e._replace(variance=torch.stack(found).sum().item() if found else None))
    return plan.with_entries(entries)._replace(
        variance=result.draws.var(0).sum().item(), microseconds=result.microseconds
    )


def _gradient(contest: Contest, plan: Plan) -> Callable[[], torch.Tensor]:
    """One draw of the gradient, flat, shape (P,), each time it is called."""
    pair, particles, vectorised = contest
    baselines: dict[str, torch.Tensor] = {}
    return lambda: flat_gradient(
        lambda: differentiable_loss(plan.recipe, pair, particles, vectorised, 1.0, baselines)[1]
    )


def _alike(plan: Plan) -> list[list[str]]:
    """Groups of sites with one distribution and the same choices: the weights of a network are one group."""
    groups: dict[tuple, list[str]] = {}
    for e in plan.entries:
        if e.estimator == SUMMED_OUT:
            continue
        groups.setdefault((e.distribution, e.plates, e.estimator, *_choices(plan, e)), []).append(e.site)
    return list(groups.values())


def _choices(plan: Plan, entry: Entry) -> list[tuple[str, str]]:
    """(estimator, term): all that is legal at a site, except what is the same with more noise."""
    legal = [name for name, why in plan.facts.options[entry.site].items() if why is None]
    racing = [name for name in legal if not any(BY_NAME[name].beaten_by(other) for other in legal)]
    estimators = [entry.estimator] if entry.site in plan.asked else racing or legal
    return [(estimator, term) for estimator in estimators for term in plan.legal_terms(entry.site, estimator)]


def _rivals(plan: Plan, sites: list[str]) -> list[Plan]:
    """The plans that differ at these sites; or, of no site, in whether draws come in antithetic pairs."""
    if not sites:
        return [plan.with_antithetic(False), plan.with_antithetic(True)]
    entry = next(e for e in plan.entries if e.site == sites[0])
    return [plan.with_choices(sites, estimator, term) for estimator, term in _choices(plan, entry)]


def _noted(plan: Plan, slower: list[tuple[list[str], dict[Plan, float]]]) -> Plan:
    """The plan, what was slower noted beside what was not legal."""
    notes: dict[str, tuple[str, ...]] = {}
    for sites, rivals in slower:
        for site in sites:
            for rival, ratio in rivals.items():
                e = next(e for e in rival.entries if e.site == site)
                notes[site] = (*notes.get(site, ()), f"{e.estimator} with {e.term}: {ratio:.2g}{TIMES}")
    return plan.with_entries(
        e._replace(ruled_out=(*(o for o in e.ruled_out if TIMES not in o), *notes.get(e.site, ())))
        for e in plan.entries
    )
