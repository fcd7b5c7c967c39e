"""The last compiled step once more, without the Python of a step: no signature, no store, no closures are gone through.

    svi.step(x):  is all that a step depends on unchanged?  -> machine code on tensors that stay where they are

What could have changed between two steps of a loop of one's own is compared in some 10 microseconds: the arguments, the
numbers outside of the program, the parameters, learning rate, default dtype, and Pyro's handlers. If anything differs,
or the loss is not finite, nothing has been done, and the caller takes the step in full.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..runtime.state import State
from .captures import Captures
from .native import NativeLoop
from .outside import current_values, present_objects, replaced
from .replay import PROBES, Replay
from .resident import Resident, count_step, is_in_place, resident
from .same_form import Call, SameForm
from .signature import Signature, surroundings


class Batches(Protocol):
    """Batches of the data: the rows of the next one, and a way to undo that."""

    def __next__(self) -> torch.Tensor: ...

    def put_back(self, index: torch.Tensor) -> None: ...


@dataclass
class Again:
    """A compiled step with all that it depends on, as it was when the step was last taken in full."""

    replay: Replay
    native: NativeLoop
    found: Resident
    form: SameForm
    captures: Captures
    state: State
    batches: Batches | None
    params: list[torch.Tensor]  # of the store
    around: tuple[Any, ...]
    outside: list[Any]
    inputs: list[torch.Tensor]  # of the compiled step, in its order
    first_data: int  # the index of the first argument among them
    written: list[torch.Tensor]  # buffers that the step may change
    before: list[torch.Tensor]  # room for their values

    def take_again(self, call: Call) -> float | None:
        """Takes the step and returns its loss; None if it must be taken in full: then nothing has been done."""
        tensors = self._checked(call)
        if tensors is None:
            return None
        self.inputs[self.first_data : self.first_data + len(tensors)] = tensors
        loss = self._run()
        if loss is not None:
            self.form.accept()
            self.replay.recorded.taken += 1
            count_step(self.found, self.replay)
        return loss

    def _checked(self, call: Call) -> list[torch.Tensor] | None:
        """The tensors among the arguments, if nothing that the step depends on has changed."""
        recorded = self.replay.recorded
        if (
            self.captures.refusal
            or recorded.is_probed
            or replaced(recorded.held)
            or recorded.native is not self.native
            or surroundings() != self.around
            or not is_in_place(self.found, self.replay)
            or not _are_the_same(list(self.state.store["params"].values()), self.params)
            or not _are_the_same(present_objects(self.captures.outside), self.outside)
        ):
            return None
        tensors, reads = self.form.tensors(call), recorded.recording.reads
        if tensors is None:
            return None
        if self.form.other and self.captures.data_changes < PROBES:
            return None
        of_data = reads is not None and bool(reads.positions)
        if (of_data and self.form.changed) or (reads and recorded.reads(self.replay.inputs) != reads.values):
            return None
        return tensors

    def _run(self) -> float | None:
        """Runs the machine code with the generator of the run; None if the loss is not finite."""
        generators, outside, index = self.state.generators, torch.get_rng_state(), None
        if self.written:
            torch._foreach_copy_(self.before, self.written)
        try:
            torch.set_rng_state(generators["cpu"]["torch"])
            if self.batches is not None:
                index = next(self.batches)
                self.inputs[0] = index[None]
            loss = self.native.loop(self.inputs, int(index is not None), 1)[0]
            after = torch.get_rng_state()
        except RuntimeError:
            loss = math.nan
        finally:
            torch.set_rng_state(outside)
        if math.isfinite(loss):
            self.state.generators = generators | {"cpu": generators["cpu"] | {"torch": after}}
            return loss
        if self.written:
            torch._foreach_copy_(self.written, self.before)
        if self.batches is not None and index is not None:
            self.batches.put_back(index)
        return None


def again(
    replay: Replay,
    signature: Signature,
    captures: Captures,
    state: State,
    batches: Batches | None,
    form: SameForm,
) -> Again | None:
    """The step that was just taken in full, to be taken again; None if it must be taken in full each time.

    signature: of the step. form: of the call.
    """
    native, outside = replay.recorded.native, present_objects(captures.outside)
    if not isinstance(native, NativeLoop) or len(form.places) != len(replay.inputs.data) or state.device.type != "cpu":
        return None
    if current_values(captures.outside) != signature.outside or (found := resident(replay, native.flat)) is None:
        return None
    inputs = [t for part in found.x for t in part]
    first_data = len(inputs) - len(found.x.data)
    params = list(state.store["params"].values())
    constants = {t.data_ptr() for t in replay.recorded.recording.constants}
    written = [buffer.detach() for buffer in replay.inputs.buffers if buffer.data_ptr() in constants]
    before = [torch.empty_like(buffer) for buffer in written]
    compared = params, surroundings(), outside
    return Again(replay, native, found, form, captures, state, batches, *compared, inputs, first_data, written, before)


def _are_the_same(now: list[Any], before: list[Any]) -> bool:
    return len(now) == len(before) and all(new is old for new, old in zip(now, before, strict=True))
