"""The state of compiled steps that follow one another: tensors that stay where compiled code changes them in place.

The parameters and their moments become views of the flat tensors that a compiled step reads and writes. So nothing is
copied in or out, and whoever reads or changes a parameter finds the present value.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from .aot import CompiledInputs
from .optimiser_state import clock, read_state, updated_tensors
from .replay import Replay


@dataclass
class Resident:
    """Where the state of a replay lies: the inputs of the compiled step, and what would show that it was moved."""

    x: CompiledInputs
    places: list[int]  # in memory, of the parameters
    time: tuple[float, float]  # the number of updates and the learning rate that x.clock holds
    memory: Any  # the optimiser's state of each parameter
    first: dict[str, Any]  # that of the first parameter
    ages: torch.Tensor | None  # updates of each parameter, shape (parameters,), where the optimiser counts in tensors


def resident(replay: Replay, flat: bool) -> Resident | None:
    """The inputs of compiled steps as the run's own tensors; None if one of them shares its memory with another.

    flat: whether the parameters, and each moment, are passed as one tensor.
    """
    x, optimiser = read_state(replay, flat), replay.optimiser
    if flat:
        vectors = []
        others = {_storage(t) for part in (x.others, x.data, replay.inputs.buffers) for t in part}
        for part in (replay.updated, *updated_tensors(replay)[1:]):
            if {_storage(t) for t in part} & others or (vector := joined(part)) is None:
                return None
            vectors.append(vector)
        x = x._replace(**{name: [t] for name, t in zip(("leaves", "first", "second"), vectors, strict=False)})
    steps = [optimiser.state[p].get("step") for p in replay.updated]
    ages = joined(steps) if isinstance(steps[0], torch.Tensor) else None
    if ages is None and isinstance(steps[0], torch.Tensor):
        return None
    first = optimiser.state[replay.updated[0]]
    return Resident(x, _places(replay), _time(optimiser, first), optimiser.state, first, ages)


def is_in_place(found: Resident, replay: Replay) -> bool:
    """Whether parameters, baselines and the optimiser's state lie where they lay.

    Updates that were not counted by `count_step`, and another learning rate, are put right.
    """
    baselines = list(replay.inputs.baselines.values())
    if (
        replay.optimiser.state is not found.memory
        or _places(replay) != found.places
        or list(map(id, baselines)) != list(map(id, found.x.baselines))
    ):
        return False
    if (now := _time(replay.optimiser, found.first)) != found.time:
        found.x.clock[0].copy_(torch.tensor(clock(replay), dtype=torch.float64))
        found.time = now
    return True


def count_step(found: Resident, replay: Replay) -> None:
    """Counts one update of every parameter, as the optimiser's own step would."""
    optimiser = replay.optimiser
    if found.ages is not None:
        found.ages.add_(1)
    counted = [] if found.ages is not None else [optimiser.state[p] for p in replay.updated]
    for state in counted:
        if "step" in state:
            state["step"] += 1
    for group in optimiser.param_groups:
        if "lrd" in group:
            group["lr"] *= group["lrd"]
    found.time = _time(optimiser, found.first)


def joined(tensors: list[torch.Tensor]) -> torch.Tensor | None:
    """One vector, shape (P,), of which these tensors are views from now on, in their order.

    None if a tensor is empty or not contiguous, or if one shares its memory with something else: their memory is then
    left as it is.
    """
    if not all(t.numel() and t.is_contiguous() for t in tensors) or len({t.dtype for t in tensors}) > 1:
        return None
    starts = [0, *accumulate(t.numel() for t in tensors)]
    storage = tensors[0].untyped_storage()
    if storage.nbytes() == starts[-1] * tensors[0].itemsize and all(
        t.data_ptr() == storage.data_ptr() + start * t.itemsize for t, start in zip(tensors, starts, strict=False)
    ):
        return torch.empty(0, dtype=tensors[0].dtype, device=tensors[0].device).set_(storage, 0, (starts[-1],), (1,))
    if len({_storage(t) for t in tensors}) < len(tensors) or any(
        t.untyped_storage().nbytes() != t.nbytes for t in tensors
    ):
        return None
    whole = torch.cat([t.detach().flatten() for t in tensors])
    for t, piece in zip(tensors, whole.split([t.numel() for t in tensors]), strict=True):
        t.data = piece.view(t.shape)
    return whole


def _storage(t: torch.Tensor) -> int:
    return t.untyped_storage().data_ptr()


def _time(optimiser: torch.optim.Optimizer, first: dict[str, Any]) -> tuple[float, float]:
    """How often a parameter with this state has been updated, and the learning rate."""
    return float(first.get("step", 0)), optimiser.param_groups[0]["lr"]


def _places(replay: Replay) -> list[int]:
    return [leaf.data_ptr() for leaf in (*replay.inputs.leaves, *replay.tables)]
