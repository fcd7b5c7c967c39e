"""The score function: the gradient of an expectation through the density of its draws, when the draws have none.

    grad E_q[cost] = E_q[(R_s - b_s) grad log q_s(z_s)]         (Williams 1992; Paisley, Blei and Jordan 2012)

R_s holds the costs that the draw moves, itself or through draws that depend on it (see `dependencies`); in a plate a
row gets the costs of its own row, if no row moves the costs of others. The baseline b_s is the mean of R_s over the
other particles (leave-one-out, Kool et al. 2019), or with one particle a moving average.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from pyro.poutine.messenger import Messenger

from ..distributions.unwrap import kind, without_path
from ..pair.costs import DATA, GUIDE, PRIOR, WEIGHT, Key, Run
from ..pair.pair import Pair, Program
from ..runtime.generators import noise
from ..runtime.probes import look_near
from ..runtime.sites import has_rsample
from ..runtime.traced import traced
from .estimator import ANALYTIC_KL, LOG_Q, Choice, Estimator, Findings
from .recipe import Draw, Part, Recipe

DECAY = 0.9  # of the moving averages
PLACES, VALUES = 4, 50  # places of the parameters, and draws there, at which supports are compared


def why_not(seen: Findings) -> dict[str, str | None]:
    """{site: None if the score function is unbiased, else why not}: its support must not move with the parameters.

    The score is the derivative of a draw's probability: it misses draws that a parameter makes impossible.
    """
    moving = _moving_supports(seen.pair, [n for n in seen.sites if n in seen.trained and n not in seen.facts.values])
    cause = "its support moves with the parameters, which the score function does not see"
    return {
        name: "a Delta has no density" if kind(site["fn"]) == "Delta" else cause if name in moving else None
        for name, site in seen.sites.items()
    }


def _moving_supports(pair: Pair, names: list[str]) -> set[str]:
    """The sites whose draws at one place of the parameters are impossible at another."""
    found: set[str] = set()
    with torch.no_grad(), noise(0):
        q = traced(pair.guide, pair.data)
        for _ in range(PLACES):
            here = {name: _possible(q.nodes[name]["fn"]) for name in names if name in q.nodes}

            def there(here: Mapping[str, Any] = here) -> tuple[set[str], dict[str, Any]]:
                other = traced(pair.guide, pair.data)  # a distribution may hold the parameter itself: it moves along
                values = {name: _possible(other.nodes[name]["fn"]) for name in here if name in other.nodes}
                return {name for name in values if _excludes(other.nodes[name]["fn"], here[name])}, values

            try:
                excluded, values = look_near(there, 0.1)
            except Exception:  # the guide cannot be run near its parameters: nothing is known there
                continue
            found |= excluded
            found |= {name for name in values if _excludes(q.nodes[name]["fn"], values[name])}
    return found


def _possible(fn: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(values that the distribution draws, where their density is finite); None for a point or what cannot say."""
    try:
        values = fn.sample((VALUES,))
        return None if kind(fn) == "Delta" else (values, torch.isfinite(fn.log_prob(values)))
    except (NotImplementedError, RuntimeError, ValueError):
        return None


def _excludes(fn: Any, drawn: tuple[torch.Tensor, torch.Tensor] | None) -> bool:
    """Whether some values that another distribution draws are impossible under this one."""
    if drawn is None or kind(fn) == "Delta":
        return False
    values, possible = drawn
    try:
        return bool((~torch.isfinite(fn.log_prob(values)) & possible).any())
    except (NotImplementedError, RuntimeError, ValueError):
        return False


def because(name: str, seen: Findings, options: Mapping[str, str | None]) -> str:
    site = seen.sites[name]
    word = kind(site["fn"])
    if has_rsample(site):
        return f"{word} has rsample, but {options['pathwise']}"
    return (
        f"{word} has no rsample: a draw cannot be differentiated, its log probability can; not summed over: "
        f"{options['enumerate']}"
    )


def enter(recipe: Recipe, chosen: Choice) -> Recipe:
    """Draws carry no gradient along them; each site adds (R_s - b_s) log q_s. Its own log q has mean gradient zero."""
    if not chosen.sites:
        return recipe
    names = frozenset(chosen.sites)
    reach = {name: chosen.facts.reads.moved_by(name, chosen.kl) for name in chosen.sites}
    terms = recipe.terms._replace(
        sticking=recipe.terms.sticking | (names - chosen.kl.keys()), unscaled=recipe.terms.unscaled | names
    )
    of_draw = partial(scores, reach, chosen.facts.coupled, partly=chosen.facts.partly)
    part = Part(of_draw, _add, partial(without_paths, names=names))
    return recipe._replace(terms=terms, parts=(*recipe.parts, part))


class Score(NamedTuple):
    """Of one site: log q at its draw, and the costs it moves, of -ELBO, in nats; both of the shape of its plates."""

    log_q: torch.Tensor
    cost: torch.Tensor


def scores(
    reach: Mapping[str, list[Key]],
    coupled: Mapping[str, frozenset[str]],
    draw: Draw,
    partly: frozenset[str] = frozenset(),
) -> dict[str, Score]:
    """{site: its log q and R_s}. reach: {site: the costs that its draw moves}. coupled: {site: the plates in which the
    draw of a row moves the costs of other rows}. partly: sites that a run may lack; they are scored as a whole.

    Raises ValueError for another site that this run of the guide did not draw.
    """
    found, drawn, lead = {}, draw.run, draw.lead
    if missing := sorted(name for name in reach if (WEIGHT, name) not in drawn.costs and name not in partly):
        raise ValueError(
            f"site {missing[0]!r}: the guide draws it in some runs only, and the score function needs it in all; "
            f"draw it in every run and let the model's branch leave it unread"
        )
    for name, keys in reach.items():
        if (WEIGHT, name) not in drawn.costs:
            none = torch.zeros(next(iter(drawn.costs.values())).shape[:lead])
            found[name] = Score(none, none)
            continue
        keys = [key for key in keys if key in drawn.costs] + draw.new
        mine = drawn.dims[WEIGHT, name]
        if name in partly:
            log_q = drawn.costs[WEIGHT, name].flatten(lead).sum(lead) if lead else drawn.costs[WEIGHT, name].sum()
            found[name] = Score(log_q, moved(drawn, keys, {}, draw.kl_weight, lead))
            continue
        log_q = trimmed(drawn.costs[WEIGHT, name], lead, depth(mine))
        cost = moved(drawn, keys, mine, draw.kl_weight, lead, coupled.get(name, frozenset()))
        found[name] = Score(log_q, cost + torch.zeros_like(log_q).detach())
    return found


def moved(
    drawn: Run,
    keys: Iterable[Key],
    mine: Mapping[str, int],
    kl_weight: float | torch.Tensor,
    lead: int,
    together: frozenset[str] = frozenset(),
) -> torch.Tensor:
    """R_s: the sum of these costs of -ELBO over all plates but the site's own, detached.

    mine: {plate of the site: its dimension}; together: those in which rows look at each other. lead: how many
    dimensions the costs have before those of plates; R_s keeps them.
    """
    total = torch.zeros(())
    for key in keys:
        weight = {DATA: -1.0, PRIOR: -kl_weight, GUIDE: kl_weight}[key[0]]
        kept = {dim for plate, dim in drawn.dims[key].items() if mine.get(plate) == dim and plate not in together}
        cost = drawn.costs[key].detach()
        lost = [dim for dim in range(lead - cost.dim(), 0) if dim not in kept]
        total = total + weight * trimmed(cost.sum(lost, keepdim=True) if lost else cost, lead, depth(mine))
    return total


def trimmed(value: torch.Tensor, lead: int, deep: int) -> torch.Tensor:
    """The same value with `deep` dimensions for plates after the leading ones."""
    plates = value.shape[lead:]
    extra = len(plates) - deep
    return value.reshape([*value.shape[:lead], *[1] * -extra, *plates[max(extra, 0) :]])


def depth(plates: Mapping[str, int]) -> int:
    return -min(plates.values(), default=0)


def _add(loss: torch.Tensor, found: Mapping[str, Score], baselines: dict[str, torch.Tensor] | None) -> torch.Tensor:
    return loss + surrogate(found, baselines) if found else loss


def surrogate(found: Mapping[str, Score], baselines: dict[str, torch.Tensor] | None) -> torch.Tensor:
    """A scalar whose gradient is the score part of that of -ELBO. found: stacked, a leading dimension of particles.

    baselines: the moving baselines of a run that takes one particle, brought up to date here.
    """
    total = torch.zeros((), dtype=torch.float64)
    for name, (log_q, cost) in found.items():
        n = len(cost)
        if n > 1:
            baseline = (cost.sum(0) - cost) / (n - 1)
        elif baselines is not None:
            mean = cost.mean().detach()
            baseline = baselines.get(name, torch.zeros_like(mean))
            baselines[name] = DECAY * baseline + (1 - DECAY) * mean if name in baselines else mean
        else:
            baseline = torch.zeros_like(cost)
        total = total + (log_q * (cost - baseline)).sum(dtype=torch.float64) / n
    return total


def without_paths(guide: Program, names: frozenset[str]) -> Program:
    """The guide, the draws of these sites carrying no gradient."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with _WithoutPaths(names):
            return guide(*args, **kwargs)

    return run if names else guide


class _WithoutPaths(Messenger):
    def __init__(self, names: frozenset[str]) -> None:
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.names and getattr(msg["fn"], "has_rsample", False):
            msg["fn"] = without_path(msg["fn"])


ESTIMATOR = Estimator(
    "score",
    (LOG_Q, ANALYTIC_KL),
    why_not,
    because,
    enter,
    baseline="leave one out",
    can_be_forced=lambda site, why: kind(site["fn"]) != "Delta",
    beaten_by=lambda other: other != "score",
)
