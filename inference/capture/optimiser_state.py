"""The state that an optimiser keeps of each parameter, handed to compiled steps and written back.

Eager, replayed and compiled steps continue one another: after a compiled step the optimiser holds what its own `step`
would have left.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from .aot import CompiledInputs
from .replay import Replay
from .row_tables import KNOWN, table_state
from .rules import RULES

MOMENTS = ("exp_avg", "exp_avg_sq")  # their names in the state of Adam
UNKNOWN = ("amsgrad", "maximize")  # options that no rule has


def unsupported(optimiser: torch.optim.Optimizer) -> str | None:
    """Why the optimiser's updates cannot be compiled; None if they can."""
    name, groups = type(optimiser).__name__, optimiser.param_groups
    if rule_of(optimiser) is None:
        return f"credo does not compile the updates of {name}, only those of {', '.join(RULES)}"
    if type(optimiser) is torch.optim.Adam and groups[0].get("decoupled_weight_decay"):
        return "Adam with decoupled_weight_decay is AdamW: pass that"
    if on := [option for option in UNKNOWN if groups[0].get(option)]:
        return f"credo does not compile {name} with {on[0]}"
    if any({**group, "params": 0} != {**groups[0], "params": 0} for group in groups):
        return f"the parameters have several settings of {name}"
    return None


def rule_of(optimiser: torch.optim.Optimizer) -> str | None:
    """The rule that updates parameters as the optimiser does, a key of `rules.UPDATES`; None if there is none.

    A class of credo's own names its rule itself.
    """
    return type(optimiser).__name__ if type(optimiser) in KNOWN else getattr(type(optimiser), "rule", None)


def settings(optimiser: torch.optim.Optimizer, used: Sequence[torch.Tensor] = ()) -> dict[str, Any]:
    """The settings that a rule reads, except the learning rate. used: the parameters that an update changes.

    Pairs of parameters, which the optimiser has by their places in its group, are those among `used`. Raises ValueError
    for a pair that is there in part: its parameters must be updated together.
    """
    names = ("betas", "eps", "weight_decay", "clip_norm", "lrd", "momentum", "dampening", "nesterov", "clip")
    group = optimiser.param_groups[0]
    found = {name: group[name] for name in (*names, "mean", "precision", "radius") if name in group}
    if "pairs" not in group:
        return found
    at, members = {id(p): i for i, p in enumerate(used)}, group["params"]
    pairs = [(at.get(id(members[i])), at.get(id(members[j])), form) for i, j, form in group["pairs"]]
    if any((i is None) != (j is None) for i, j, _ in pairs):
        raise ValueError("a normal whose loc or scale gets no gradient")
    return found | {"pairs": [pair for pair in pairs if pair[0] is not None]}


def is_evenly_updated(replay: Replay) -> bool:
    """Whether all parameters have been updated, and equally often. A compiled step has one count for all."""
    optimiser, used = replay.optimiser, replay.updated
    states = [optimiser.state.get(p, {}) for p in used]
    needed = _moment_names(optimiser, used)
    if any(state.get(name) is None for state, names in zip(states, needed, strict=True) for name in names):
        return False
    if "pairs" in optimiser.param_groups[0] and not all("step" in state for state in states):
        return False
    return len({float(state.get("step", 0)) for state in states}) == 1


def read_state(replay: Replay, flat: bool, tensors: list[list[torch.Tensor]] | None = None) -> CompiledInputs:
    """The inputs of a compiled step. flat: parameters, and each moment, as one copied tensor; else the run's own.

    tensors: what `updated_tensors` returns, if it is known.
    """
    recorded, inputs, *_ = replay
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
        tables=[table_state(replay.optimiser, whole) for whole in replay.tables],
        clock=[torch.tensor(clock(replay), dtype=torch.float64, device=used[0].device)],
        others=[p.detach() for i, p in enumerate(inputs.leaves[: replay.alone]) if i not in recorded.used],
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
    """The run's own tensors that an update changes: the parameters, then each of their moments, if any has it."""
    used, state = replay.updated, replay.optimiser.state
    each = [
        [state[p][name] for name in names] for p, names in zip(used, _moment_names(replay.optimiser, used), strict=True)
    ]
    moments = ([own[k] for own in each if len(own) > k] for k in range(max(map(len, each), default=0)))
    return [[p.detach() for p in used], *moments]


def kept_by_leaf(replay: Replay) -> tuple[list[int], ...]:
    """Which of the updated parameters there are, have a first and a second moment; () if all have the same moments."""
    if "pairs" not in replay.optimiser.param_groups[0]:
        return ()
    counts = [len(names) for names in _moment_names(replay.optimiser, replay.updated)]
    return tuple([i for i, count in enumerate(counts) if count >= k] for k in range(3))


def _moment_names(optimiser: torch.optim.Optimizer, used: Sequence[torch.Tensor]) -> list[tuple[str, ...]]:
    """The moments that the optimiser keeps of each parameter."""
    group = optimiser.param_groups[0]
    if type(optimiser) is torch.optim.SGD:
        return [("momentum_buffer",) if group["momentum"] else ()] * len(used)
    # Of a normal: the momentum of its loc, and nothing of its scale, which is the precision itself.
    few: dict[int, tuple[str, ...]] = {id(group["params"][i]): MOMENTS[:1] for i, _, _ in group.get("pairs", ())}
    few |= {id(group["params"][j]): () for _, j, _ in group.get("pairs", ())}
    return [few.get(id(p), MOMENTS) for p in used]


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
