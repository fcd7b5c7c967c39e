"""The arguments of a run, checked once."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import torch

from ..inputs.arguments import shown, whole_number, yes_or_no
from ..inputs.versions import versions
from ..pair.pair import Program
from ..pair.same_job import refuse_others
from ..planning.plan import Plan
from ..runtime.defaults import accelerator, choose_device
from ..runtime.generators import LARGEST_SEED
from ..runtime.products import PRECISIONS
from ..runtime.workers import SHARDS, Workers, workers
from ..updates.optimiser import LR, NATURAL
from ..updates.rates import checked_rates
from ..updates.schedule import WANTED, Rate, Schedule, schedule_of


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
    schedule: Schedule | None = None  # of the learning rate
    clip: float | None = None  # the largest norm of the whole gradient
    precision: str | None = None  # of the products in networks
    natural: bool = False  # whether normals move by natural gradients
    kl_warmup: int | None = None  # the step from which the weight of log q - log p(z) is 1
    kl_quiet: int = 0  # the first steps, in which it is 0
    shard: str = "rows"  # what processes share: the rows of a batch, or its particles
    workers: Workers | None = None  # the processes of the run


LARGEST = 2**31 - 1  # particles, rows of a batch


def checked(
    model: Program,
    lr: Rate,
    particles: int | None,
    batch_size: int | None,
    plan: Mapping[str, str] | Plan | str | None,
    force: bool,
    seed: int,
    device: str | torch.device | None,
    progress: bool,
    compile: bool = True,
    clip: float | None = None,
    optim: Any = None,
    precision: str | None = None,
    kl_warmup: int | tuple[int, int] | None = None,
    shard: str = "rows",
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
    schedule = schedule_of(lr, getattr(optim, "keywords", {}).get("lr", LR))
    if isinstance(lr, Mapping):
        checked_rates(lr, optim)
    elif schedule is None and not _is_positive(lr):
        raise ValueError(f"lr: got {shown(lr)}, {WANTED}")
    if clip is not None and not _is_positive(clip):
        raise ValueError(f"clip: got {shown(clip)}, wanted a positive number, the largest norm of the whole gradient")
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"precision: got {shown(precision)}, wanted None (as the data are) or {PRECISIONS[0]!r}")
    quiet, full = _warmup(kl_warmup)
    if shard not in SHARDS:
        raise ValueError(f"shard: got {shown(shard)}, wanted 'rows' or 'particles', which the processes are to share")
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
        schedule=schedule,
        clip=None if clip is None else float(clip),
        precision=precision,
        natural=isinstance(optim, str) and optim == NATURAL,
        kl_warmup=full,
        kl_quiet=quiet,
        shard=shard,
        workers=workers(shard),
    )


def _warmup(asked: Any) -> tuple[int, int | None]:
    """(the first steps without log q - log p(z), those after which it has its whole weight; None: as credo chooses)."""
    if asked is None:
        return 0, None
    if not isinstance(asked, tuple | list):
        return 0, whole_number("kl_warmup", asked, 0, LARGEST)
    if len(asked) != 2:
        raise ValueError(f"kl_warmup: got {shown(asked)}, wanted a number of steps, or two: (weight 0 until, 1 from)")
    quiet, full = (whole_number("kl_warmup", number, 0, LARGEST) for number in asked)
    if quiet > full:
        raise ValueError(f"kl_warmup: got {shown(asked)}, wanted the smaller number first: (weight 0 until, 1 from)")
    return quiet, full


def _is_positive(number: Any) -> bool:
    return not isinstance(number, bool) and isinstance(number, Real) and 0 < float(number) < math.inf


def same_on_all(runner: Any, data: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    """Raises ValueError in all processes of a job where one of them has other code, options of the call, or data."""
    refuse_others(runner._settings.workers, (runner._settings.model, runner.guide), options, data)
    runner._checked = versions(data)
