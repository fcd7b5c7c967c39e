"""The step of one pair on data of one kind, captured, and replayed as the graph is.

    (parameters, baselines, batch) -> (the loss in nats, gradients, new baselines)

A graph draws from the generators as the program itself would: the same seed, the same numbers. `machine` makes it
faster still; `compiled` decides which is used.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyro
import torch

from ..runtime.generators import generators_kept
from .record import NotCaptured, Recording, kept, record

# (the estimate of -ELBO, a scalar with its gradient), of these baselines, which it brings up to date.
Objective = Callable[[dict[str, torch.Tensor]], tuple[torch.Tensor, torch.Tensor]]


PROBES = 8


CLOSE = 1e-5  # relative to the largest number: what a graph and its program may differ by


ROUNDING = 1e-6  # relative to the loss: what a gradient may, which may be a difference of costs as large as this


class StepInputs(NamedTuple):
    """The tensors of a run that a step reads; an `Objective` reads these very ones."""

    leaves: list[torch.Tensor]
    baselines: dict[str, torch.Tensor]
    each: list[torch.Tensor]  # what is another in every step: the rows of the batch, the kl_weight
    data: list[torch.Tensor]
    buffers: list[torch.Tensor]

    @property
    def inputs(self) -> list[torch.Tensor]:
        """Those that a graph is handed, in its order."""
        return [*self.leaves, *self.baselines.values(), *self.each, *self.data]


@dataclass
class Replay:
    """A captured step. machine: see `machine.pursue`; None before that was asked."""

    captured: Recording
    used: list[int]  # the leaves that there is a gradient for
    taken: int = 0  # steps
    seconds: float = 0.0  # that they took
    machine: Any = None

    def updated(self, live: StepInputs) -> list[torch.Tensor]:
        """The leaves that there is a gradient for."""
        return [live.leaves[i] for i in self.used]

    @property
    def is_probed(self) -> bool:
        """Whether it is to be held against the program now: after 2^k steps."""
        return self.taken >= PROBES and self.taken & (self.taken - 1) == 0

    @property
    def unprobed(self) -> int:
        """Steps until it is."""
        return (1 << self.taken.bit_length()) - self.taken


def recorded(objective: Objective, live: StepInputs) -> Replay:
    """The step, captured and held against the program in some draws. Raises NotCaptured."""
    used: list[int] = []
    replay = Replay(record(lambda: _values(objective, live, used), live.inputs, live.buffers), used)
    for probe in range(PROBES):
        check_against_program(replay, objective, live, probe)
    return replay


def check_against_program(replay: Replay, objective: Objective, live: StepInputs, seed: int) -> None:
    """Raises NotCaptured if graph and program differ in loss or gradient under the same noise. Nothing is changed."""
    used: list[int] = []
    known = set(pyro.get_param_store().keys())
    results, generators = [], []
    with generators_kept():
        for compute in (lambda: graph(replay, live), lambda: _values(objective, live, used)):
            with kept(live.buffers):
                torch.manual_seed(seed)
                try:
                    results.append([value.detach() for value in compute()])
                except (RuntimeError, IndexError) as error:
                    raise fails(error) from error
                generators.append(torch.get_rng_state())
    if new := sorted(set(pyro.get_param_store().keys()) - known):
        raise NotCaptured(f"after {replay.taken:,} steps parameter {new[0]!r} appeared")
    if not torch.equal(*generators):
        raise NotCaptured(f"after {replay.taken:,} steps the program draws other random numbers than were recorded")
    one, two = results
    rounding = ROUNDING * two[0].abs().nan_to_num(0, posinf=0).item()
    if used != replay.used or not all(_same(a, b, rounding) for a, b in zip(one, two, strict=True)):
        same = _same(one[0], two[0], rounding)
        what = "gradient" if same else f"-ELBO {one[0].item():g} recorded, {two[0].item():g} now"
        raise NotCaptured(f"after {replay.taken:,} steps the program does not do what was recorded ({what})")


def fails(error: Exception) -> NotCaptured:
    """What is said of a graph that raises this."""
    return NotCaptured(f"its recorded form fails ({str(error).splitlines()[0][:160]})")


def _same(one: torch.Tensor, two: torch.Tensor, rounding: float) -> bool:
    """Whether two tensors are the same but for this and for what is little beside their largest number; NaN is NaN."""
    if one.shape != two.shape:
        return False
    largest = max(one.abs().max().item(), two.abs().max().item()) if one.numel() else 0.0
    slack = rounding + CLOSE * largest if largest < torch.inf else 0.0
    return torch.allclose(one, two, rtol=0, atol=slack, equal_nan=True)


def graph(replay: Replay, live: StepInputs) -> list[torch.Tensor]:
    """The loss, a gradient for each of `used`, the new baselines."""
    with torch.no_grad():
        return list(replay.captured.run(*live.inputs, *replay.captured.constants))[
            : 1 + len(replay.used) + len(live.baselines)
        ]


def one_step(replay: Replay, live: StepInputs, optimiser: torch.optim.Optimizer) -> float:
    """One step of the graph as it is. The loss; if it is not finite, nothing was updated."""
    begun = time.perf_counter()
    loss, *rest = graph(replay, live)
    value = loss.item()
    if math.isfinite(value):
        for leaf in live.leaves:
            leaf.grad = None
        for i, gradient in zip(replay.used, rest, strict=False):
            leaf = live.leaves[i]  # updates read both in the order of memory
            leaf.grad = gradient if gradient.stride() == leaf.stride() else torch.empty_like(leaf).copy_(gradient)
        optimiser.step()
        for average, new in zip(live.baselines.values(), rest[len(replay.used) :], strict=True):
            average.copy_(new)
    replay.taken += 1
    replay.seconds += time.perf_counter() - begun
    return value


def _values(objective: Objective, live: StepInputs, used: list[int]) -> list[torch.Tensor]:
    """The program itself; `used` is filled."""
    baselines = dict(live.baselines)
    with torch.enable_grad():
        value, surrogate = objective(baselines)
        gradients = torch.autograd.grad(surrogate, live.leaves, allow_unused=True)
    used[:] = [i for i, gradient in enumerate(gradients) if gradient is not None]
    return [value, *(g for g in gradients if g is not None), *(baselines[name] for name in live.baselines)]
