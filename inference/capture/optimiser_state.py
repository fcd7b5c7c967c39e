"""The state that an optimiser keeps of each parameter, handed to compiled steps and written back.

Eager, replayed and compiled steps continue one another: after a compiled step the optimiser holds what its own `step`
would have left.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pyro.optim.clipped_adam import ClippedAdam
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from .aot import RULES, CompiledInputs
from .replay import Replay

MOMENTS = ("exp_avg", "exp_avg_sq")  # their names in the state of Adam
KNOWN = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, ClippedAdam)  # the classes of RULES, not subclasses
UNKNOWN = ("amsgrad", "maximize")  # options that no rule of `aot` has


def unsupported(optimiser: torch.optim.Optimizer) -> str | None:
    """Why the optimiser's updates cannot be compiled; None if they can."""
    name, groups = type(optimiser).__name__, optimiser.param_groups
    if type(optimiser) not in KNOWN:
        return f"credo does not compile the updates of {name}, only those of {', '.join(RULES)}"
    if type(optimiser) is torch.optim.Adam and groups[0].get("decoupled_weight_decay"):
        return "Adam with decoupled_weight_decay is AdamW: pass that"
    if on := [option for option in UNKNOWN if groups[0].get(option)]:
        return f"credo does not compile {name} with {on[0]}"
    if any({**group, "params": 0} != {**groups[0], "params": 0} for group in groups):
        return f"the parameters have several settings of {name}"
    return None


def settings(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The settings that a rule of `aot` reads, except the learning rate."""
    names = ("betas", "eps", "weight_decay", "clip_norm", "lrd", "momentum", "dampening", "nesterov", "clip")
    return {name: optimiser.param_groups[0][name] for name in names if name in optimiser.param_groups[0]}


def is_evenly_updated(replay: Replay) -> bool:
    """Whether all parameters have been updated, and equally often. A compiled step has one count for all."""
    states = [replay.optimiser.state.get(p, {}) for p in replay.updated]
    if any(state.get(name) is None for state in states for name in _moment_names(replay.optimiser)):
        return False
    return len({float(state.get("step", 0)) for state in states}) == 1


def read_state(replay: Replay, flat: bool, tensors: list[list[torch.Tensor]] | None = None) -> CompiledInputs:
    """The inputs of a compiled step. flat: parameters, and each moment, as one copied tensor; else the run's own.

    tensors: what `updated_tensors` returns, if it is known.
    """
    recorded, inputs, _ = replay
    parts, used = tensors or updated_tensors(replay), replay.updated
    if flat:
        parts = [[_flatten_dense_tensors(part)] for part in parts]
    parts += [[]] * (3 - len(parts))
    leaves, first, second = parts
    return CompiledInputs(
        per_step=inputs.per_step,
        leaves=leaves,
        first=first,
        second=second,
        # Summed in double precision; in the parameters' own for large networks, whose time is memory traffic.
        totals=[torch.zeros_like(p, dtype=torch.float64 if flat else None) for p in leaves],
        baselines=list(inputs.baselines.values()),
        clock=[torch.tensor(clock(replay), dtype=torch.float64, device=used[0].device)],
        others=[p.detach() for i, p in enumerate(inputs.leaves) if i not in recorded.used],
        data=[*inputs.data, *recorded.recording.constants],
    )


def clock(replay: Replay) -> list[float]:
    """[b1^t, b2^t, the learning rate] after t updates, see `CompiledInputs`."""
    group = replay.optimiser.param_groups[0]
    age = float(replay.optimiser.state[replay.updated[0]].get("step", 0))
    return [*(beta**age for beta in group.get("betas", (1.0, 1.0))), group["lr"]]


def write_state(
    replay: Replay, x: CompiledInputs, flat: bool, steps: int, tensors: list[list[torch.Tensor]] | None = None
) -> None:
    """Writes parameters and moments after `steps` updates of what `read_state` returned, and counts the steps."""
    optimiser, used = replay.optimiser, replay.updated
    if flat:
        now = filter(None, (x.leaves, x.first, x.second))
        for part, (new,) in zip(tensors or updated_tensors(replay), now, strict=True):
            torch._foreach_copy_(part, _unflatten_dense_tensors(new, part))
    states = [optimiser.state[p] for p in used]
    ages = [state["step"] for state in states if isinstance(state.get("step"), torch.Tensor)]
    if ages:  # at once: a run with a callback comes here often
        torch._foreach_add_(ages, steps)
    for state in states:
        if "step" in state and not isinstance(state["step"], torch.Tensor):
            state["step"] += steps
    for group in optimiser.param_groups:
        group["lr"] *= group.get("lrd", 1.0) ** steps


def updated_tensors(replay: Replay) -> list[list[torch.Tensor]]:
    """The run's own tensors that an update changes: the parameters, then each of their moments."""
    used, state = replay.updated, replay.optimiser.state
    moments = ([state[p][name] for p in used] for name in _moment_names(replay.optimiser))
    return [[p.detach() for p in used], *moments]


def _moment_names(optimiser: torch.optim.Optimizer) -> tuple[str, ...]:
    if type(optimiser).__name__ == "SGD":
        return ("momentum_buffer",) if optimiser.param_groups[0]["momentum"] else ()
    return MOMENTS


def plain_optimiser(optimiser: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Any]:
    """The settings and moments of an optimiser as plain values, its parameters by name. names: {id: name}."""

    def plain(value: Any) -> Any:
        return value.detach().clone() if isinstance(value, torch.Tensor) else value

    return {
        "type": type(optimiser).__name__,
        "groups": [
            {name: plain(value) for name, value in group.items() if name != "params"}
            | {"params": [names[id(p)] for p in group["params"]]}
            for group in optimiser.param_groups
        ],
        "state": {
            names[id(p)]: {name: plain(value) for name, value in moments.items()}
            for p, moments in optimiser.state.items()
            if id(p) in names
        },
    }


def put_optimiser(
    optimiser: torch.optim.Optimizer, plain: Mapping[str, Any], leaves: Mapping[str, torch.Tensor]
) -> None:
    """Puts what `plain_optimiser` returned into an optimiser of the same class. Raises ValueError for another class."""
    if type(optimiser).__name__ != plain["type"]:
        raise ValueError(f"the optimiser is {type(optimiser).__name__} here, and was {plain['type']}")
    defaults = {name: value for name, value in optimiser.param_groups[0].items() if name != "params"}
    optimiser.param_groups[:] = [
        defaults | group | {"params": [leaves[name] for name in group["params"]]} for group in plain["groups"]
    ]
    optimiser.state.clear()
    for name, moments in plain["state"].items():
        optimiser.state[leaves[name]] = {
            key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in moments.items()
        }
