"""Decides which steps of a run are replayed from a recording and which run eagerly.

The first steps run eagerly. Then the step is recorded (`record`) and replayed as a graph of torch operators, which
takes tenths of a second and no compiler. If the run goes on, the graph is compiled in the background (`native`). Each
signature has its own recording (`signature`), and so have the values that Python reads from the data (`reads`). A
program that does not repeat itself runs eagerly, with the reason in `summary`. Graph and program are compared when the
step is recorded, the first times that the data are other tensors, and after 2^k steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from .native import NativeLoop, advance_compilation
from .outside import Readers, current_values, definition_line, outside_readers, replaced, scalars_of, tensors_of
from .record import NotCaptured
from .replay import PROBES, EagerStep, RecordedStep, Replay, StepInputs, check_against_program, record_step
from .signature import Signature

GRAPHS = 8  # at most, of a run: further signatures run eagerly
SIGNATURES = 1000  # whose eager steps are counted at a time


@dataclass
class Captures:
    """The recordings of a run. refusal: why nothing is replayed any more."""

    outside: Readers  # the numbers that the program reads from outside, see `outside_scalars`
    program_line: str = ""  # where the program is defined
    readers: Readers = field(default_factory=dict)  # all that it reads from outside, see `outside_readers`
    refusal: str = ""
    recorded: dict[Signature, RecordedStep] = field(default_factory=dict)
    eager_steps: dict[Signature, int] = field(default_factory=dict)
    last_data: tuple[int, ...] = ()  # identities of the tensors in the last step
    data_changes: int = 0  # how often other tensors came
    replacements: int = 0  # how often a tensor outside was replaced by another one
    last_outside: tuple[Any, ...] = ()  # the numbers outside in the last step
    outside_changes: int = 0  # consecutive steps in which they changed
    last_read: tuple[Any, ...] = ()  # the last values that Python read from the data and no recording has
    new_reads: int = 0  # how often they were others in a row
    left: float = math.inf  # steps that the run still takes, if their number is given
    ahead: int = 0  # eager steps that another process took of the first signature here

    def find(self, signature: Signature, step: EagerStep, patience: int) -> Replay | None:
        """The step to replay now; None for an eager step. patience: eager steps of a signature before its recording."""
        if self.refusal:
            return None
        try:
            self._refuse_restless_numbers(signature.outside)
            signature = self._with_reads(signature, step.inputs)
            recorded = self._recorded(signature)
            if recorded is None:
                recorded = self._record_after_patience(signature, step, patience)
            elif self._is_other_data(step.inputs.data) or recorded.is_probed:
                check_against_program(recorded, step, recorded.taken)
        except NotCaptured as reason:
            self.give_up(reason)
            return None
        if recorded is None:
            return None
        replay = Replay(recorded, step.inputs, step.optimiser, step.workers)
        advance_compilation(replay, self.left)
        return replay

    def _recorded(self, signature: Signature) -> RecordedStep | None:
        """The recording for this signature, unless it holds a tensor that the program does not find any more."""
        recorded = self.recorded.get(signature)
        name = None if recorded is None else replaced(recorded.held)
        if name is None:
            return recorded
        self.replacements += 1
        if self.replacements > PROBES:
            raise NotCaptured(f"{name!r}, a tensor outside of the program, is replaced again and again: write into it")
        del self.recorded[signature]
        return None

    def _record_after_patience(self, signature: Signature, step: EagerStep, patience: int) -> RecordedStep | None:
        if len(self.eager_steps) > SIGNATURES:  # as when an argument changes at every step
            self.eager_steps.clear()
        self.eager_steps[signature] = self.eager_steps.get(signature, self.ahead) + 1
        self.ahead = 0
        if self.eager_steps[signature] <= patience:
            return None
        self.recorded = {old: found for old, found in self.recorded.items() if old.choices == signature.choices}
        if len(self.recorded) == GRAPHS:
            return None
        found = record_step(step)
        found.held = tensors_of(self.readers, found.recording.constants)
        reads = found.recording.reads
        if reads is not None and found.reads(step.inputs) != reads.values:  # or each step would be recorded anew
            raise NotCaptured("Python reads a value of the data that differs from run to run")
        self.recorded[signature._replace(read=() if reads is None else reads.values)] = found
        if changed := self._changed(signature.outside, current_values(self.outside)):
            raise NotCaptured(f"the program changes {changed!r}, a number outside of it, while it runs")
        return found

    def eager_steps_of(self, choices: tuple) -> int:
        """How many steps of these choices came before their recording so far, most of all signatures."""
        return max((n for signature, n in self.eager_steps.items() if signature.choices == choices), default=0)

    def _with_reads(self, signature: Signature, inputs: StepInputs) -> Signature:
        """The signature with the values that Python reads from these data, as far as the recordings tell."""
        now = signature
        for key, recorded in self.recorded.items():
            if key.read and key._replace(read=()) == signature:
                now = signature._replace(read=recorded.reads(inputs))
                if now == key:
                    self.new_reads = 0
                    return key
        if now.read and now.read != self.last_read:
            self.new_reads, self.last_read = self.new_reads + 1, now.read
            if self.new_reads > PROBES:
                raise NotCaptured("Python reads a value of the data that changes from step to step")
        return now

    def _refuse_restless_numbers(self, now: tuple[Any, ...]) -> None:
        self.outside_changes = self.outside_changes + 1 if now != self.last_outside and self.last_outside else 0
        if self.outside_changes > PROBES:
            changed = self._changed(self.last_outside, now)
            raise NotCaptured(f"{changed!r}, a number outside of the program, changes at every step")
        self.last_outside = now

    def _changed(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> str | None:
        """The name of the first number that differs."""
        names = (name for name, a, b in zip(self.outside, before, after, strict=True) if a != b)
        return next((name.split(".")[-1] for name in names), None)

    def give_up(self, reason: Exception) -> None:
        """Replays nothing from here on. The reason gets the line of the program unless it names a line itself."""
        text = str(reason)
        self.refusal = text if text.endswith("`") else text + self.program_line
        self.recorded.clear()

    @property
    def summary(self) -> str:
        """How the steps are taken, and why, in one line."""
        if self.refusal:
            return f"eager: {self.refusal}"
        if not self.recorded:
            few = len(self.eager_steps) <= GRAPHS
            return f"eager: {'too few steps' if few else 'other arguments or shapes each time'}"
        stages = [recorded.native for recorded in self.recorded.values()]
        if loops := [stage for stage in stages if isinstance(stage, NativeLoop)]:
            return "captured once, compiled" + next((f"; {loop.words}" for loop in loops if loop.words), "")
        reason = next((f" ({stage})" for stage in stages if isinstance(stage, str)), "")
        return f"captured once, replayed operator by operator{reason}"

    def _is_other_data(self, data: list[torch.Tensor]) -> bool:
        """Whether the data are other tensors than in the last step; counted up to PROBES times."""
        before, self.last_data = self.last_data, tuple(id(t) for t in data)
        other = bool(before) and before != self.last_data and self.data_changes < PROBES
        self.data_changes += other
        return other


def captures_of(model: Callable[..., Any], guide: Callable[..., Any]) -> Captures:
    """The recordings of a run of this pair, before the first of them."""
    readers = outside_readers((model, guide))
    return Captures(scalars_of(readers), definition_line(model), readers)
