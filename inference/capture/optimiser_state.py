"""What an optimiser keeps of each parameter, handed to compiled steps and taken back from them.

Eager, replayed and compiled steps go on from each other: after a compiled one the optimiser holds what its own `step`
would have left.
"""

from typing import Any

import torch
from pyro.optim.clipped_adam import ClippedAdam

from .aot import RULES, Inputs, apart
from .replay import Replay, StepInputs

MOMENTS = ("exp_avg", "exp_avg_sq")  # as Adam calls them in its state


KNOWN = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, ClippedAdam)  # of RULES; their subclasses are others


UNKNOWN = ("amsgrad", "maximize")  # settings that no rule of `ahead` has


def refused(optimiser: torch.optim.Optimizer) -> str | None:
    """Why its updates cannot be compiled."""
    name, groups = type(optimiser).__name__, optimiser.param_groups
    if type(optimiser) not in KNOWN:
        return f"the updates of {name} are not known to credo, only those of {', '.join(RULES)}"
    if type(optimiser) is torch.optim.Adam and groups[0].get("decoupled_weight_decay"):
        return "Adam with decoupled_weight_decay is AdamW: pass that"
    if on := [option for option in UNKNOWN if groups[0].get(option)]:
        return f"{name} with {on[0]} is not known to credo"
    if any({**group, "params": 0} != {**groups[0], "params": 0} for group in groups):
        return f"the parameters have several settings of {name}"
    return None


def settings(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Those that a rule of `ahead` reads."""
    names = ("betas", "eps", "weight_decay", "clip_norm", "lrd", "momentum", "dampening", "nesterov")
    return {name: optimiser.param_groups[0][name] for name in names if name in optimiser.param_groups[0]}


def fits(replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer) -> bool:
    """Whether all parameters have been updated, and equally often."""
    states = [optimiser.state.get(p, {}) for p in replay.updated(live)]
    if any(state.get(name) is None for state in states for name in _names(optimiser)):
        return False
    return len({float(state.get("step", 0)) for state in states}) == 1


def read_state(replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer, flat: bool) -> Inputs:
    """What a step is run on. flat: each kind of parameters as one tensor, a copy; else the run's own tensors."""
    kinds, used = _own(replay, live, optimiser), replay.updated(live)
    if flat:
        kinds = [[torch.cat([t.flatten() for t in kind])] for kind in kinds]
    kinds += [[]] * (3 - len(kinds))
    leaves, first, second = kinds
    group = optimiser.param_groups[0]
    age = float(optimiser.state[used[0]].get("step", 0))
    powers = [beta**age for beta in group.get("betas", (1.0, 1.0))]
    return Inputs(
        each=live.each,
        leaves=leaves,
        first=first,
        second=second,
        # Summed in double precision; of large networks, whose blocks are short, as they are: memory is their time.
        totals=[torch.zeros_like(p, dtype=torch.float64 if flat else None) for p in leaves],
        baselines=list(live.baselines.values()),
        clock=[torch.tensor([*powers, group["lr"]], dtype=torch.float64, device=used[0].device)],
        others=[p.detach() for i, p in enumerate(live.leaves) if i not in replay.used],
        data=[*live.data, *replay.captured.constants],
    )


def write_state(
    replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer, x: Inputs, flat: bool, steps: int
) -> None:
    """Parameters and optimiser after so many updates of what was read."""
    used = replay.updated(live)
    if flat:
        for kind, (now,) in zip(_own(replay, live, optimiser), filter(None, x[1:4]), strict=True):
            torch._foreach_copy_(kind, apart(now, (p.shape for p in used)))
    for p in used:
        if "step" in optimiser.state[p]:
            optimiser.state[p]["step"] += steps
    for group in optimiser.param_groups:
        group["lr"] *= group.get("lrd", 1.0) ** steps


def _own(replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer) -> list[list[torch.Tensor]]:
    """The run's own tensors: the parameters that are updated, and each kind of moments of theirs."""
    used = replay.updated(live)
    return [[p.detach() for p in used], *([optimiser.state[p][name] for p in used] for name in _names(optimiser))]


def _names(optimiser: torch.optim.Optimizer) -> tuple[str, ...]:
    name = type(optimiser).__name__
    if name == "SGD":
        return ("momentum_buffer",) if optimiser.param_groups[0]["momentum"] else ()
    return MOMENTS
