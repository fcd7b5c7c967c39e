"""SVI on many data sets at once: `vmap` over data sets, each with parameters of its own.

    minimise sum_s -ELBO(phi_s; y_s),   phi (S, ...)      one gradient step moves all data sets

Guide, plan and starting values are those of `credo.fit` on one of the data sets; the fit to that data set is found
again here, and must be the same.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from warnings import catch_warnings, filterwarnings

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import nn
from torch.distributions import transform_to

from ..objective.elbo import log_weights, objective
from ..pair.pair import Pair
from ..runtime.generators import noise
from ..runtime.parameters import unconstrained
from ..runtime.reachable import find_modules
from ..runtime.vectorise import each
from ..variational.result import Fit

PARTICLES = 8  # at most: those of a fit of its own cost little, here they cost S times as much
SCHEDULE = ((0.5, 1.0), (0.25, 0.3), (0.25, 0.1))  # (share of the steps, factor of the rate) of a round
LEAST = 500  # steps of a round
ROUNDS = 6  # at most, each of as many steps as all before together
ENOUGH = 64  # draws for the gain in ELBO between two averages
NATS = 0.005  # gain in ELBO above which a fit goes on

Parameters = dict[str, torch.Tensor]


class ManyFits(NamedTuple):
    """The parameters of S fits."""

    parameters: Parameters  # {name: unconstrained, shape (S, *shape)}
    steps: int
    moving: torch.Tensor  # (S,), whether a longer run would still gain


class Slots(NamedTuple):
    """Where modules keep parameters that they read without asking Pyro, and the names of these parameters."""

    places: list[tuple[dict[str, Any], str, str]]  # (the parameters of a module, key, name in the store)


def slots(fit: Fit) -> Slots:
    """Those of the modules that the pair of a fit reaches. The state of the run has been entered."""
    modules = {m: None for root in find_modules((fit.model, fit.guide, fit.data)) for m in root.modules()}
    names = {id(value): name for name, value in unconstrained().items()}
    places = [
        (module._parameters, key, names[id(value)])
        for module in modules
        for key, value in module._parameters.items()
        if id(value) in names and not key.endswith("_unconstrained")  # Pyro's own, which `_Placed` sees
    ]
    return Slots(places)


@contextmanager
def parameters_placed(values: Parameters, known: Slots) -> Iterator[None]:
    """Inside, the parameters of programs are these: unconstrained values, which `vmap` may batch."""
    before = [(parameters, key, parameters[key]) for parameters, key, _ in known.places]
    try:
        for parameters, key, name in known.places:
            parameters[key] = values[name]
        with _Placed(values), catch_warnings():
            filterwarnings("ignore", ".* was not registered in the param store")  # by pyro.module, of what stands there
            yield
    finally:
        for parameters, key, value in before:
            parameters[key] = value


class _Placed(Messenger):
    """Gives the parameters of a program the constrained values of these unconstrained ones."""

    def __init__(self, values: Parameters) -> None:
        super().__init__()
        self.values = values

    def _pyro_param(self, msg: Any) -> None:
        if msg["name"] in self.values:
            constraint = pyro.get_param_store()._constraints[msg["name"]]
            msg["value"] = transform_to(constraint)(self.values[msg["name"]])
            msg["done"] = True


class _Starts(Messenger):
    """Gives the parameters of a program the starting values that it computes on its data, and keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Parameters = {}

    def _pyro_param(self, msg: Any) -> None:
        start = msg["args"][1] if len(msg["args"]) > 1 else None
        if start is not None and not isinstance(start, nn.Parameter) and msg["name"] not in self.found:
            value = (start() if callable(start) else start).detach()
            msg["value"], msg["done"] = value, True
            self.found[msg["name"]] = transform_to(msg["kwargs"]["constraint"]).inv(value)


def starts(fit: Fit, arguments: dict[int, torch.Tensor]) -> Parameters:
    """The starting values of the parameters for each data set, unconstrained. The guide has run once in this state."""
    S = len(next(iter(arguments.values())))
    known = {name: value.detach().expand(S, *value.shape) for name, value in unconstrained().items()}

    def one(mine: dict[int, torch.Tensor]) -> Parameters:
        with _Starts() as seen:
            fit.guide(*data_with(fit.data, mine))
        return {name: value for name, value in seen.found.items() if name in known}

    with torch.no_grad():
        own = each(one, arguments, vectorised=True)
    return {name: own.get(name, value).clone() for name, value in known.items()}


def fit_many(
    fit: Fit,
    arguments: dict[int, torch.Tensor],
    start: Parameters,
    optimiser: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
    steps: int | None,
) -> ManyFits:
    """The fits to all data sets. steps: of each; None: until a longer run gains nothing, from as many as `fit` took."""
    recipe, known = fit.plan.recipe, slots(fit)
    particles = min(fit.plan.particles or 1, PARTICLES)

    def loss(inputs: tuple[Parameters, dict[int, torch.Tensor]]) -> torch.Tensor:
        parameters, mine = inputs
        with parameters_placed(parameters, known):
            return objective(recipe, _pair(fit, mine), particles, True)[1]

    def elbo(inputs: tuple[Parameters, dict[int, torch.Tensor]]) -> torch.Tensor:
        parameters, mine = inputs
        with parameters_placed(parameters, known):
            weights: torch.Tensor = log_weights(_pair(fit, mine), ENOUGH, True, recipe.valued())
            return weights

    run = _Run(loss, optimiser)
    if steps is not None:
        found, _ = run.averages(start, arguments, [(steps, 1.0)])
        return ManyFits(found, steps, torch.zeros(len(next(iter(start.values()))), dtype=torch.bool))
    now = {name: value.clone() for name, value in start.items()}
    taken, n = 0, max(LEAST, len(fit.losses))
    moving = torch.ones(len(next(iter(start.values()))), dtype=torch.bool)
    for _ in range(ROUNDS):
        at = moving.nonzero()[:, 0]
        some, mine = _at(now, at), _at(arguments, at)
        last, before = run.averages(some, mine, [(round(share * n), rate) for share, rate in SCHEDULE])
        for name in now:
            now[name][at] = last[name]
        moving[at] = _gains(elbo, last, some if taken else before, mine, taken)
        taken, n = taken + n, taken + n
        if not moving.any():
            break
    return ManyFits(now, taken, moving)


class _Run(NamedTuple):
    """Steps of an optimiser on all data sets."""

    loss: Callable[[tuple[Parameters, dict[int, torch.Tensor]]], torch.Tensor]
    optimiser: Callable[[list[torch.Tensor]], torch.optim.Optimizer]

    def averages(
        self, start: Parameters, arguments: dict[int, torch.Tensor], schedule: list[tuple[int, float]]
    ) -> tuple[Parameters, Parameters]:
        """The averages of the last quarter of the iterates, and of the last half of those before it."""
        leaves = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
        optimiser = self.optimiser(list(leaves.values()))
        rates = [group["lr"] for group in optimiser.param_groups]
        total = sum(steps for steps, _ in schedule)
        sums = [
            {name: torch.zeros_like(value, requires_grad=False) for name, value in leaves.items()} for _ in range(2)
        ]
        counts, t = [0, 0], 0
        for steps, factor in schedule:
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = factor * rate
            for _ in range(steps):
                self._step(leaves, arguments, optimiser)
                t += 1
                which = 0 if t > total - max(1, total // 4) else 1
                if which == 0 or t > total // 2:
                    counts[which] += 1
                    for name, value in leaves.items():
                        sums[which][name] += value.detach()
        last, before = (
            {n: v / max(1, count) for n, v in each_.items()} for each_, count in zip(sums, counts, strict=True)
        )
        return last, before

    def _step(self, leaves: Parameters, arguments: dict[int, torch.Tensor], optimiser: torch.optim.Optimizer) -> None:
        """One step; a data set whose gradient is not finite has none in this step."""
        losses = each(self.loss, (leaves, arguments), vectorised=True)
        gradients = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
        for leaf, gradient in zip(leaves.values(), gradients, strict=True):
            leaf.grad = None if gradient is None else gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        optimiser.step()


def _gains(
    elbo: Callable[[Any], torch.Tensor], new: Parameters, old: Parameters, arguments: dict[int, torch.Tensor], seed: int
) -> torch.Tensor:
    """Which data sets gained in ELBO from the old to the new parameters, (S,), by the same noise for both."""
    with torch.no_grad():
        weights = []
        for parameters in (new, old):
            with noise(seed):
                weights.append(each(elbo, (parameters, arguments), vectorised=True))
    gain = weights[0] - weights[1]
    error = gain.std(1) / ENOUGH**0.5
    return gain.mean(1) > torch.clamp(2 * error, min=NATS)


def data_with(data: tuple[Any, ...], arguments: dict[int, torch.Tensor]) -> tuple[Any, ...]:
    """The data with these arguments in place of its own."""
    return tuple(arguments.get(i, value) for i, value in enumerate(data))


def _pair(fit: Fit, arguments: dict[int, torch.Tensor]) -> Pair:
    return Pair(fit.model, fit.guide, data_with(fit.data, arguments), fit.summed, followers=fit.followers)


def _at(values: dict[Any, torch.Tensor], rows: torch.Tensor) -> dict[Any, torch.Tensor]:
    return {name: value[rows] for name, value in values.items()}
