"""One update of the parameters by the gradient of a loss."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from ..capture.row_tables import TableRows, update_rows
from ..runtime.defaults import on_cpu
from ..runtime.parameters import all_finite, clip_gradients, place_parameters, unconstrained
from ..runtime.workers import Workers, averaged_step, greatest
from .rates import rate_of

LONG, SHORT = 10.0, 0.2  # widths of the optimum: a longer step is too long; the step that is taken instead
MEMORY = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "step"}  # of torch's optimisers


def update(
    optimiser: torch.optim.Optimizer,
    loss: Callable[[], tuple[float, torch.Tensor]],
    rows: TableRows | None = None,
    workers: Workers | None = None,
    baselines: dict[str, torch.Tensor] | None = None,
    first: bool = False,
) -> float:
    """Takes one gradient step and returns the value of `loss()`, nats. If that is not finite, nothing is updated.

    NaN also stands for a finite value whose gradient is not finite.

    workers: the processes whose losses and gradients are averaged. baselines: those that `loss` brings up to date, to
    be averaged too. first: whether it may create some, so that a process where it fails does not know their number.
    loss: returns (its value, the scalar whose gradient is the step's). It may create parameters, as a guide does at
    its first call: they are added to the optimiser.
    rows: of the tables that `loss` reads, as leaves that have no gradient yet.
    """
    optimiser.zero_grad()
    value = _of_one(loss) if workers is None else _of_all(loss, workers, {} if baselines is None else baselines, first)
    if not math.isfinite(value):
        return value
    leaves = [*unconstrained().values(), *(rows.leaves if rows is not None else ())]
    if not all_finite([p.grad for p in leaves if p.grad is not None]):
        return math.nan
    if clip := optimiser.defaults.get("clip"):
        clip_gradients(leaves, clip)
    known = {id(p) for group in optimiser.param_groups for p in group["params"]}
    for name, p in unconstrained().items():
        if id(p) not in known:
            rates = optimiser.defaults.get("rates")
            own = {"lr": rate_of(name, rates, optimiser.defaults["lr"])} if rates else {}
            optimiser.add_param_group({"params": [p], **own})
    with on_cpu(leaves[0].device):
        optimiser.step()
        if rows is not None:
            update_rows(optimiser, rows)
    return value


def _of_one(loss: Callable[[], tuple[float, torch.Tensor]]) -> float:
    """The value of a loss, whose gradients are in the parameters afterwards if it is finite."""
    value, surrogate = loss()
    if math.isfinite(value):
        surrogate.backward()
    return value


def _of_all(
    loss: Callable[[], tuple[float, torch.Tensor]], workers: Workers, baselines: dict[str, torch.Tensor], first: bool
) -> float:
    """The mean of the losses of all processes; the mean gradients are in the parameters afterwards.

    NaN where one is not finite, or where the loss of a process raises an error: it raises it once the others, which
    wait for its gradient, have been told.
    """
    error, value = None, math.nan
    try:
        value = _of_one(loss)
    except Exception as raised:
        error = raised
    leaves = list(unconstrained().values())
    gradients = [p.grad if math.isfinite(value) else None for p in leaves]
    if error is not None:
        error.told = True  # type: ignore[attr-defined]  # to all, by what follows
    if first and greatest(workers, [not math.isfinite(value)])[0]:
        if error is not None:
            raise error
        return math.nan
    mean, gradients, found = averaged_step(
        workers, leaves[0].new_tensor(value), gradients, leaves, [*baselines.values()]
    )
    if error is not None:
        raise error
    for p, gradient in zip(leaves, gradients, strict=True):
        p.grad = gradient
    baselines.update(zip(baselines, found, strict=True))
    return mean.item()


def move(optimiser: torch.optim.Optimizer, point: torch.Tensor) -> None:
    """Moves the parameters to a point, shape (P,), where the optimiser must know nothing of the gradients before.

    Where gradients had been large, the running squares of Adam would make its steps tiny for thousands of steps.
    """
    place_parameters(point, unconstrained().values())
    for state in optimiser.state.values():
        for name in MEMORY & state.keys():
            state[name] = state[name].zero_() if isinstance(state[name], torch.Tensor) else 0


def limit_rates(optimiser: torch.optim.Optimizer, scale: torch.Tensor, rate: float) -> None:
    """Lowers the learning rates of Adam for parameters whose optimum is far narrower than a step is long.

    Adam moves every parameter by its learning rate. Where that is many times the width of the optimum, the iterates
    leave it again, and no average of them is near. Other optimisers stay as they are.

    scale: the widths, 1 / sqrt(second derivative of -ELBO), shape (P,). rate: the factor that the rates fell to.
    """
    if not isinstance(optimiser, torch.optim.Adam):  # AdamW is one
        return
    narrowest = [part.min().item() for part in scale.split([p.numel() for p in unconstrained().values()])]
    widths = {id(p): width for p, width in zip(unconstrained().values(), narrowest, strict=True)}
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for group in optimiser.param_groups:
        first = group.setdefault("initial_lr", group["lr"] / rate)  # torch's name for it
        for p in group["params"]:
            width = widths.get(id(p), math.inf)
            own = SHORT * width if first > LONG * width else first
            groups.setdefault((first, own), {**group, "lr": rate * own, "params": []})["params"].append(p)
    optimiser.param_groups[:] = groups.values()


def has_one_rate(optimiser: torch.optim.Optimizer) -> bool:
    """Whether all parameters have the same learning rate, as compiled steps need."""
    return len({group["lr"] for group in optimiser.param_groups}) == 1


def without_gradient(unused: Callable[[], list[str]] | None = None) -> list[str]:
    """A warning for each parameter that got no gradient in the last update, if it is `unused`, asked when needed."""
    found = [name for name, p in unconstrained().items() if p.grad is None]
    if found and unused is not None:
        with suppress(Exception):  # of a program that fails at many draws: then it is not known to be used
            never = unused()
            found = [name for name in found if name in never]
    return [f"parameter {name!r} gets no gradient: is it detached, or used by no site?" for name in found]
