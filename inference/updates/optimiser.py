"""The optimiser of a run: torch's, made for the run's own parameters."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from .natural import Natural, Normal, mean_step
from .rates import grouped
from .schedule import Rate, Schedule

LR = 0.02  # of Adam, in unconstrained space
NATURAL = "natural"  # the word for natural gradients of normals
BETAS = (0.9, 0.99)  # a short memory: gradients of scales shrink by orders of magnitude on the way


def optimiser(optim: Any, lr: Rate | Schedule, clip: float | None = None) -> Callable[..., torch.optim.Optimizer]:
    """What makes the optimiser of a run. A learning rate of its own goes before `lr`, unless that is a schedule.

    lr: a rate, a schedule, or {pattern of names: rate}, where `optim` has the rate of all other parameters.
    It is called with the parameters and, for NATURAL, with `pairs`, those of them that are a normal's, and
    `scaled`, by how much the terms of a batch are.

    clip: the largest norm of the whole gradient, a setting of the optimiser that eager and compiled updates read.
    """
    own = getattr(optim, "keywords", {})
    by_name = lr if isinstance(lr, Mapping) else None
    rate = {"lr": LR if by_name else lr, **own} if not isinstance(lr, Schedule) else {**own, "lr": lr.base}

    def made(
        parameters: Iterable[torch.Tensor], pairs: Sequence[Normal] = (), scaled: float = 1.0
    ) -> torch.optim.Optimizer:
        if optim == NATURAL:
            found: torch.optim.Optimizer = Natural(parameters, rate["lr"], pairs, mean=mean_step(scaled))
        else:
            found = unclipped(parameters)
        if clip is not None:
            found.defaults["clip"] = clip
            for group in found.param_groups:
                group["clip"] = clip
        return found

    def unclipped(parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
        leaves = list(parameters)
        groups: list[Any] = grouped(leaves, by_name, rate["lr"]) if by_name else leaves
        if optim is None:
            fused = all(p.is_floating_point() for p in leaves)
            found: torch.optim.Optimizer = torch.optim.Adam(groups, lr=rate["lr"], betas=BETAS, fused=fused)
        else:
            found = optim(groups, **rate)
        if by_name:
            found.defaults["rates"] = by_name  # of parameters that a later step makes
        return found

    return made


def is_torchs(optim: Any) -> bool:
    """Whether an optimiser is one to be made for the run's parameters: "natural", a class of torch's, or a partial.

    Raises ValueError for an instance, which has parameters of its own.
    """
    if isinstance(optim, str) and optim == NATURAL:
        return True
    inner = optim.func if isinstance(optim, functools.partial) else optim
    if isinstance(inner, torch.optim.Optimizer):
        name = type(inner).__name__
        raise ValueError(
            f"optim: got an instance of {name}, whose parameters would not be those of the run; pass the class, "
            f"or functools.partial(torch.optim.{name}, ...)"
        )
    if inner is torch.optim.LBFGS:
        raise ValueError(
            "optim: LBFGS evaluates the loss several times in a step, and noise misleads its line search; pass "
            "torch.optim.Adam"
        )
    if not callable(inner):
        raise ValueError(f"optim: got {optim!r}, wanted 'natural', a class of torch's like torch.optim.Adam, or None")
    return isinstance(inner, type) and issubclass(inner, torch.optim.Optimizer)
