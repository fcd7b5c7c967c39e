"""A step, recorded as a graph, checked against the program that it records, and replayed.

    (leaves, baselines, per-step inputs, data) -> (the loss, gradients, new baselines)

A graph draws from the random generators as the program would: the same seed gives the same numbers. `native` replaces
it with compiled code in a long run; `captures` decides which steps are replayed.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyro
import torch

from ..runtime.defaults import on_cpu
from ..runtime.generators import generators_kept, seed_torch, set_torch_states, torch_states
from ..runtime.parameters import all_finite, clip_gradients
from ..runtime.workers import Workers, averaged_step
from .outside import Held
from .reads import Value
from .record import NotCaptured, Recording, record, values_kept
from .row_tables import TableRows, update_rows

# Of the baselines: (the loss, a scalar; a scalar whose gradient is the step's). It writes the new baselines into them.
LossFunction = Callable[[dict[str, torch.Tensor]], tuple[torch.Tensor, torch.Tensor]]
PROBES = 8  # draws in which a new graph is compared with its program
CLOSE = 1e-5  # by how much graph and program may differ, relative to a tensor's largest magnitude
ROUNDING = 1e-6  # and relative to the loss: a gradient may be a small difference of costs as large as the loss


class StepInputs(NamedTuple):
    """The tensors that a step reads."""

    leaves: list[torch.Tensor]  # the parameters
    baselines: dict[str, torch.Tensor]  # moving averages, replaced by each step
    per_step: list[torch.Tensor]  # what changes at every step, such as the row indices of a batch
    data: list[torch.Tensor]
    buffers: list[torch.Tensor]  # of networks; the step may change them in place
    rows: TableRows | None = None  # of tables: their leaves are the last of `leaves`

    @property
    def graph_inputs(self) -> list[torch.Tensor]:
        """The inputs of the graph, in its order; it holds the buffers as constants."""
        return [*self.leaves, *self.baselines.values(), *self.per_step, *self.data]


class EagerStep(NamedTuple):
    """A step run by its own Python. loss: a function that reads the very tensors of `inputs`."""

    loss: LossFunction
    inputs: StepInputs
    optimiser: torch.optim.Optimizer
    workers: Workers | None = None  # whose gradients are averaged


@dataclass
class RecordedStep:
    """A step's graph, and how often it was replayed."""

    recording: Recording
    used: list[int]  # indices of the leaves that have a gradient
    taken: int = 0  # steps
    seconds: float = 0.0  # of all steps replayed by the graph
    native: Any = None  # the stage of its compilation, see `native`
    looked: float = 0.0  # the seconds after which a library was looked for
    held: list[Held] = field(default_factory=list)  # the tensors outside of the program that it holds
    read_last: list[tuple[torch.Tensor, int]] = field(default_factory=list)  # the data that it read, their versions

    def reads(self, inputs: StepInputs) -> tuple[Value, ...]:
        """The values that Python would read from these data; () if it reads none."""
        reads = self.recording.reads
        if reads is None:
            return ()
        needed = reads.needed(inputs.graph_inputs)
        last = len(needed) == len(self.read_last) and all(
            new is old and new._version == version for new, (old, version) in zip(needed, self.read_last, strict=True)
        )
        if last:
            return reads.values
        now = reads.now(needed)
        if now == reads.values:
            self.read_last = [(t, t._version) for t in needed]
        return now

    @property
    def is_probed(self) -> bool:
        """Whether to compare the graph with its program now: after 2^k steps."""
        return self.taken >= PROBES and self.taken & (self.taken - 1) == 0

    def looks_again(self, seconds: float) -> bool:
        """Whether to look for the library that another process compiles: after so many seconds of replayed steps."""
        due = self.seconds > self.looked + seconds
        self.looked = self.seconds if due else self.looked
        return due

    @property
    def until_probe(self) -> int:
        """Steps until the next comparison."""
        return (1 << self.taken.bit_length()) - self.taken


class Replay(NamedTuple):
    """A recorded step with the tensors that it reads now and the optimiser that updates its leaves."""

    recorded: RecordedStep
    inputs: StepInputs
    optimiser: torch.optim.Optimizer
    workers: Workers | None = None  # whose gradients are averaged

    @property
    def alone(self) -> int:
        """How many of the first leaves are parameters of their own, not rows of tables."""
        return len(self.inputs.leaves) - (len(self.inputs.rows.leaves) if self.inputs.rows else 0)

    @property
    def updated(self) -> list[torch.Tensor]:
        """The leaves that have a gradient, without rows of tables."""
        return [self.inputs.leaves[i] for i in self.recorded.used if i < self.alone]

    @property
    def tables(self) -> list[torch.Tensor]:
        """The tables whose rows have a gradient."""
        wholes = [] if self.inputs.rows is None else self.inputs.rows.wholes
        return [wholes[i - self.alone] for i in self.recorded.used if i >= self.alone]


def record_step(step: EagerStep) -> RecordedStep:
    """The step recorded as a graph, which agrees with its program in PROBES draws. Raises NotCaptured."""
    used: list[int] = []
    inputs = step.inputs
    data = range(len(inputs.graph_inputs) - len(inputs.data), len(inputs.graph_inputs))
    recording = record(lambda: _program_values(step, used), inputs.graph_inputs, inputs.buffers, data)
    recorded = RecordedStep(recording, used)
    for seed in range(PROBES):
        check_against_program(recorded, step, seed)
    return recorded


def check_against_program(recorded: RecordedStep, step: EagerStep, seed: int) -> None:
    """Raises NotCaptured if graph and program differ in loss or gradient under the same noise. It changes no state."""
    used: list[int] = []
    known = set(pyro.get_param_store().keys())
    results, generators = [], []
    with generators_kept():
        for compute in (lambda: _graph_values(recorded, step.inputs), lambda: _program_values(step, used)):
            with values_kept(step.inputs.buffers):
                seed_torch(seed)
                try:
                    results.append([value.detach() for value in compute()])
                except (RuntimeError, IndexError) as error:
                    if isinstance(error, torch.linalg.LinAlgError) and results and results[0][0].isnan():
                        return  # of the program, at a draw at which the graph gives NaN
                    raise graph_failed(error) from error
                generators.append(torch_states())
    if new := sorted(set(pyro.get_param_store().keys()) - known):
        raise NotCaptured(f"after {recorded.taken:,} steps parameter {new[0]!r} appeared")
    if not all(map(torch.equal, *generators)):
        raise NotCaptured(f"after {recorded.taken:,} steps the program draws other random numbers than its recording")
    one, two = results
    rounding = ROUNDING * two[0].abs().nan_to_num(0, posinf=0).item()
    if used != recorded.used or not all(_nearly_equal(a, b, rounding) for a, b in zip(one, two, strict=True)):
        same_loss = _nearly_equal(one[0], two[0], rounding)
        what = "gradient" if same_loss else f"loss {one[0].item():g} recorded, {two[0].item():g} now"
        raise NotCaptured(f"after {recorded.taken:,} steps the program differs from its recording ({what})")


def graph_failed(error: Exception) -> NotCaptured:
    """The reason to give when a graph raises `error`."""
    return NotCaptured(f"its recording fails ({str(error).splitlines()[0][:160]})")


def _nearly_equal(one: torch.Tensor, two: torch.Tensor, rounding: float) -> bool:
    """Whether two tensors are equal up to `rounding` plus CLOSE of the largest magnitude; NaN equals NaN."""
    if one.shape != two.shape:
        return False
    largest = max(one.abs().max().item(), two.abs().max().item()) if one.numel() else 0.0
    slack = rounding + CLOSE * largest if largest < torch.inf else 0.0
    return torch.allclose(one, two, rtol=0, atol=slack, equal_nan=True)


def _graph_values(recorded: RecordedStep, inputs: StepInputs) -> list[torch.Tensor]:
    """Runs the graph: the loss, a gradient for each leaf of `used`, the new baselines."""
    with torch.no_grad():
        return list(recorded.recording.run(*inputs.graph_inputs, *recorded.recording.constants))[
            : 1 + len(recorded.used) + len(inputs.baselines)
        ]


def _program_values(step: EagerStep, used: list[int]) -> list[torch.Tensor]:
    """Runs the program: the same values as `_graph_values`. Fills `used`."""
    baselines = dict(step.inputs.baselines)
    with torch.enable_grad():
        value, surrogate = step.loss(baselines)
        gradients = torch.autograd.grad(surrogate, step.inputs.leaves, allow_unused=True)
    used[:] = [i for i, gradient in enumerate(gradients) if gradient is not None]
    return [value, *(g for g in gradients if g is not None), *(baselines[name] for name in step.inputs.baselines)]


def one_step(replay: Replay) -> float:
    """Takes one step by the graph and returns the loss. If it is not finite, nothing is updated.

    NaN also stands for a finite loss whose gradient is not finite.
    """
    recorded, inputs, optimiser, workers = replay
    begun = time.perf_counter()
    before = torch_states()
    try:
        loss, *rest = _graph_values(recorded, inputs)
    except Exception:  # e.g. a shape that appears only now: the program takes this step, with the same random numbers
        set_torch_states(before)
        raise
    gradients, baselines = rest[: len(recorded.used)], rest[len(recorded.used) :]
    if workers is not None:
        found = dict(zip(recorded.used, gradients, strict=True))
        each = [found.get(i) for i in range(len(inputs.leaves))]
        loss, each, baselines = averaged_step(workers, loss, each, inputs.leaves, baselines)
        gradients = [g for i in recorded.used if (g := each[i]) is not None]  # those that are used have one
    value = loss.item()
    if math.isfinite(value) and not all_finite(gradients):
        value = math.nan
    if math.isfinite(value):
        for leaf in inputs.leaves:
            leaf.grad = None
        used = [inputs.leaves[i] for i in recorded.used]
        for leaf, gradient in zip(used, gradients, strict=True):  # updates read both in the order of memory
            leaf.grad = gradient if gradient.stride() == leaf.stride() else torch.empty_like(leaf).copy_(gradient)
        if clip := optimiser.param_groups[0].get("clip"):
            clip_gradients(used, clip)
        with on_cpu(loss.device):
            optimiser.step()
            if inputs.rows is not None:
                update_rows(optimiser, inputs.rows)
        for average, new in zip(inputs.baselines.values(), baselines, strict=True):
            average.copy_(new)
    recorded.taken += 1
    recorded.seconds += time.perf_counter() - begun
    return value
