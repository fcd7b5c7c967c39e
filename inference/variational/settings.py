"""The arguments of a run, checked once."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

import torch

from ..inputs.arguments import shown, whole_number, yes_or_no
from ..pair.pair import Program
from ..planning.plan import Plan
from ..runtime.defaults import accelerator, choose_device
from ..runtime.generators import LARGEST_SEED


class Settings(NamedTuple):
    """The arguments of `credo.fit` and `credo.SVI` that a run keeps; None where the run is to choose."""

    model: Program  # as the user wrote it: its signature names the data
    particles: int | None
    batch_size: int | None
    overrides: Mapping[str, str] | Plan | None  # {site: estimator}, or the plan to repeat
    races: bool  # whether legal plans compete
    force: bool
    seed: int
    device: torch.device | None  # None: the CPU or the accelerator, as the pair needs (see `planning/place.py`)
    progress: bool


LARGEST = 2**31 - 1  # particles, rows of a batch


def checked(
    model: Program,
    lr: float,
    particles: int | None,
    batch_size: int | None,
    plan: Mapping[str, str] | Plan | str | None,
    force: bool,
    seed: int,
    device: str | torch.device | None,
    progress: bool,
    compile: bool = True,
) -> Settings:
    """The settings of a run. Raises ValueError naming the argument that is out of range."""
    if isinstance(plan, str) and plan != "fast":
        raise ValueError(f"plan: got {plan!r}, wanted 'fast', a Plan, or a mapping of sites to estimators")
    if plan is not None and not isinstance(plan, Mapping | Plan | str):
        raise ValueError(f"plan: got {shown(plan)}, wanted 'fast', a Plan, or a mapping of sites to estimators")
    if isinstance(plan, Mapping):
        for site, estimator in plan.items():
            if not isinstance(estimator, str):
                raise ValueError(f"plan: got {shown(estimator)} for site {site!r}, wanted the name of an estimator")
    yes_or_no("compile", compile)
    if isinstance(lr, bool) or not isinstance(lr, Real) or not 0 < lr < math.inf:
        raise ValueError(f"lr: got {shown(lr)}, wanted a positive learning rate")
    return Settings(
        model=model,
        particles=None if particles is None else whole_number("particles", particles, 1, LARGEST),
        batch_size=None if batch_size is None else whole_number("batch_size", batch_size, 1, LARGEST),
        overrides=None if isinstance(plan, str) else plan,
        races=not isinstance(plan, Plan | str),
        force=yes_or_no("force", force),
        seed=whole_number("seed", seed, 0, LARGEST_SEED),
        device=None if device is None and accelerator() is not None else choose_device(device),
        progress=yes_or_no("progress", progress),
    )
