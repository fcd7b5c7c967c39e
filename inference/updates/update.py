"""One update of the parameters by the gradient of a loss."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from ..capture.row_tables import TableRows, update_rows
from ..runtime.defaults import on_cpu
from ..runtime.parameters import all_finite, clip_gradients, place_parameters, unconstrained
from .rates import rate_of

LONG, SHORT = 10.0, 0.2  # widths of the optimum: a longer step is too long; the step that is taken instead
MEMORY = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "step"}  # of torch's optimisers


def update(
    optimiser: torch.optim.Optimizer, loss: Callable[[], tuple[float, torch.Tensor]], rows: TableRows | None = None
) -> float:
    """Takes one gradient step and returns the value of `loss()`, nats. If that is not finite, nothing is updated.

    NaN also stands for a finite value whose gradient is not finite.

    loss: returns (its value, the scalar whose gradient is the step's). It may create parameters, as a guide does at
    its first call: they are added to the optimiser.
    rows: of the tables that `loss` reads, as leaves that have no gradient yet.
    """
    optimiser.zero_grad()
    value, surrogate = loss()
    if not math.isfinite(value):
        return value
    surrogate.backward()
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
    with on_cpu(surrogate.device):
        optimiser.step()
        if rows is not None:
            update_rows(optimiser, rows)
    return value


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
