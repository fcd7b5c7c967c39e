"""The score function: the gradient of an expectation through the density of its draws, when the draws have none.

    grad E_q[cost] = E_q[(R_s - b_s) grad log q_s(z_s)]         (Williams 1992; Paisley, Blei and Jordan 2012)

R_s holds the costs that the draw moves, itself or through draws that depend on it (see `dependencies`); in a plate a
row gets those of its own row, if rows do not look at each other. The baseline b_s is the mean of R_s over the other
particles (leave-one-out, Kool et al. 2019), or with one particle a moving average.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from pyro.poutine.messenger import Messenger

from ..distributions.unwrap import without_path
from ..pair.costs import DATA, GUIDE, PRIOR, WEIGHT, Key, Run
from ..pair.pair import Program

DECAY = 0.9  # of the moving baselines


class Score(NamedTuple):
    """Of one site: log q at its draw, and the costs it moves, of -ELBO, in nats; both of the shape of its plates."""

    log_q: torch.Tensor
    cost: torch.Tensor


def scores(
    drawn: Run,
    reach: Mapping[str, list[Key]],
    coupled: Mapping[str, frozenset[str]],
    kl_weight: float | torch.Tensor,
    lead: int,
) -> dict[str, Score]:
    """{site: its log q and R_s}. reach: {site: the costs that its draw moves}. coupled: {site: the plates in which its
    rows look at each other}. lead: as for `moved`.
    """
    found = {}
    for name, keys in reach.items():
        mine = drawn.dims[WEIGHT, name]
        log_q = trimmed(drawn.costs[WEIGHT, name], lead, depth(mine))
        cost = moved(drawn, keys, mine, kl_weight, lead, coupled.get(name, frozenset()))
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
