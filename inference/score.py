"""The score function: the gradient of an expectation through the density of its draws, when the draws have none.

    grad E_q[cost] = E_q[(R_s - b_s) grad log q_s(z_s)]         (Williams 1992; Paisley, Blei and Jordan 2012)

R_s holds the costs that z_s may move: those after it in the guide's order, and in the model's from the first site on
that reads one of these (what comes before cannot know the value, whatever Python does with it). In a plate a row gets
the costs of its own row, if rows do not look at each other; `coupled_plates` finds out. The baseline b_s is the mean of
R_s over the other particles (leave-one-out, Kool et al. 2019), or with one particle a moving average.
"""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from .costs import DATA, GUIDE, PRIOR, WEIGHT, Costs, Dims, Pair, Program, run
from .looks import elsewhere, without_dropout
from .scope import noise
from .sites import drawn

LOOKS, DECAY = 3, 0.9


class Score(NamedTuple):
    """Of one site: log q at its draw, and the costs it may move, of -ELBO, in nats; both of the shape of its plates."""

    log_q: torch.Tensor
    cost: torch.Tensor


def scores(costs: Costs, dims: Dims, coupled: Mapping[str, frozenset[str]], warmth: float) -> dict[str, Score]:
    """{site: its log q and its costs} for the sites of `coupled`: the plates in which their rows look at each other."""
    found = {}
    for name, together in coupled.items():
        log_q = costs[WEIGHT, name]
        mine = {plate: dim for plate, dim in dims[WEIGHT, name].items() if plate not in together}
        total = torch.zeros_like(log_q)
        for key in _after(name, costs):
            weight = {DATA: -1.0, PRIOR: -warmth, GUIDE: warmth}[key[0]]
            kept = {dim for plate, dim in dims[key].items() if mine.get(plate) == dim}
            cost = costs[key].detach()
            for dim in range(-cost.dim(), 0):
                if dim not in kept:
                    cost = cost.sum(dim, keepdim=True)
            while cost.dim() > log_q.dim():
                cost = cost.squeeze(0)
            total = total + weight * cost
        found[name] = Score(log_q, total)
    return found


def surrogate(found: Mapping[str, Score], averages: dict[str, torch.Tensor] | None) -> torch.Tensor:
    """A scalar whose gradient is the score part of that of -ELBO. found: stacked, a leading dimension of particles.

    averages: the moving averages of a run that takes one particle, brought up to date here.
    """
    total = torch.zeros((), dtype=torch.float64)
    for name, (log_q, cost) in found.items():
        n = len(cost)
        if n > 1:
            baseline = (cost.sum(0) - cost) / (n - 1)
        elif averages is not None:
            mean = cost.mean().detach()
            baseline = averages.get(name, torch.zeros_like(mean))
            averages[name] = DECAY * baseline + (1 - DECAY) * mean if name in averages else mean
        else:
            baseline = torch.zeros_like(cost)
        total = total + (log_q * (cost - baseline)).sum(dtype=torch.float64) / n
    return total


def _after(name: str, costs: Costs) -> list[tuple[str, str]]:
    """The costs that the draw of a site may move, by the order of the two programs."""
    model = [key for key in costs if key[0] in (DATA, PRIOR)]
    guide = [key for key in costs if key[0] == GUIDE]
    later = guide[guide.index((GUIDE, name)) :]
    if any((PRIOR, site) not in costs for _, site in later):  # auxiliary, or a KL: the model reads it who knows where
        return model + later
    return model[min(model.index((PRIOR, site)) for _, site in later) :] + later


def coupled_plates(pair: Pair, names: list[str]) -> dict[str, frozenset[str]]:
    """{site: the plates in which one row's draw moves the costs of other rows}. Found by looking, a few times."""
    found: dict[str, set[str]] = {name: set() for name in names}
    for look in range(LOOKS):
        with torch.no_grad(), elsewhere(0.1 if look else 0.0), without_dropout(tuple(pair)):
            trace = poutine.trace(pair.guide).get_trace(*pair.data)
            sites = {n: s for n, s in drawn(trace).items() if type(s["fn"]).__name__ != "Delta"}
            values = {name: site["value"] for name, site in sites.items()}
            before = _costs(pair, values)
            for name in names:
                fn, value = sites[name]["fn"], values[name]
                for frame in sites[name]["cond_indep_stack"]:
                    if not frame.vectorized or frame.size < 2:
                        continue
                    axis = value.dim() - len(fn.event_shape) + frame.dim
                    rows = torch.randint(frame.size, ()).item()
                    changed = value.clone()
                    changed.select(axis, int(rows)).copy_(_another(fn, value).select(axis, int(rows)))
                    if _moved(before, _costs(pair, values | {name: changed}), frame, int(rows)):
                        found[name].add(frame.name)
    return {name: frozenset(plates) for name, plates in found.items()}


def _costs(pair: Pair, values: Mapping[str, torch.Tensor]) -> tuple[Costs, Dims]:
    dims: Dims = {}
    with noise(0):
        return run(pair, values, dims=dims)[1], dims


def _another(fn: Any, value: torch.Tensor) -> torch.Tensor:
    """A draw that differs from this one wherever a few tries find one."""
    new = fn.sample()
    for _ in range(8):
        same = new == value
        if not same.any():
            break
        new = torch.where(same, fn.sample(), new)
    return new


def _moved(before: tuple[Costs, Dims], after: tuple[Costs, Dims], frame: Any, row: int) -> bool:
    """Whether a cost in this plate changed in another row than this one."""
    for key, cost in before[0].items():
        if before[1][key].get(frame.name) != frame.dim or cost.dim() < -frame.dim or key not in after[0]:
            continue
        if cost.shape[frame.dim] != frame.size or after[0][key].shape != cost.shape:
            continue
        difference = (cost != after[0][key]) & ~(cost.isnan() & after[0][key].isnan())
        others = difference.movedim(frame.dim, 0)
        if others[torch.arange(frame.size) != row].any():
            return True
    return False


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
            msg["fn"] = _without_path(msg["fn"])


def _without_path(fn: Any) -> Any:
    """A copy of the distribution whose draws carry no gradient, whatever wraps it."""
    fn = copy.copy(fn)
    if isinstance(type(fn).has_rsample, property):  # of Independent, expanded and transformed distributions
        fn.base_dist = _without_path(fn.base_dist)
    else:
        fn.has_rsample = False
    return fn
