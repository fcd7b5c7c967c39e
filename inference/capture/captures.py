"""Which of a run's steps are the program itself, and which replay what was captured of it.

The first steps are eager. Then loss and gradient are captured once (`capture`) and replayed as a graph of torch
operators, which costs tenths of a second and no compiler; if the run goes on, they become machine code (`machine`) in
the background. Each kind of data has a graph of its own: shapes, types, strides, devices, other arguments, training
modes, and the plan. A program that does not repeat itself runs eagerly, and the plan says why. That is looked for when
a step is captured, when other data comes in the steps after that, and again at steps 2^k.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from .native import NativeLoop, advance_compilation
from .outside import values
from .record import NotCaptured
from .replay import PROBES, Objective, Replay, StepInputs, check_against_program, recorded
from .signature import Signature

KINDS, MANY = 8, 1000  # of data, for each of which there is a graph; and of which the steps are counted


@dataclass
class Captures:
    """What a run captured. why: the reason for which it captures no more."""

    outside: dict[str, Callable[[], Any]]  # how the numbers of `Kind` are read, see `reach.scalars`
    where: str = ""  # the first line of the model
    why: str = ""
    replays: dict[Signature, Replay] = field(default_factory=dict)
    eager: dict[Signature, int] = field(default_factory=dict)  # steps
    seen: tuple[int, ...] = ()  # the data of the last step
    others: int = 0  # how often other data came
    last: tuple[Any, ...] = ()  # the numbers outside, in the last step
    changes: int = 0  # steps in a row in which they changed

    def find(
        self, kind: Signature, live: StepInputs, objective: Objective, optimiser: torch.optim.Optimizer, patience: int
    ) -> Replay | None:
        """The graph to replay now; None for an eager step. patience: eager steps on such data before a capture."""
        if self.why:
            return None
        replay = self.replays.get(kind)
        try:
            self._refuse_restless(kind.outside)
            if replay is None:
                if len(self.eager) > MANY:  # an argument that is another in every step
                    self.eager.clear()
                self.eager[kind] = self.eager.get(kind, 0) + 1
                if self.eager[kind] <= patience:
                    return None
                self.replays = {old: r for old, r in self.replays.items() if old.plan == kind.plan}
                if len(self.replays) == KINDS:
                    return None
                replay = self.replays[kind] = recorded(objective, live)
                if changed := self._changed(kind.outside, values(self.outside)):
                    raise NotCaptured(f"the pair changes {changed!r}, a number outside of it, as it runs")
            elif self._other_data(live) or replay.is_probed:
                check_against_program(replay, objective, live, replay.taken)
        except NotCaptured as reason:
            self.give_up(reason)
            return None
        advance_compilation(replay, live, optimiser)
        return replay

    def _refuse_restless(self, now: tuple[Any, ...]) -> None:
        self.changes = self.changes + 1 if now != self.last and self.last else 0
        if self.changes > PROBES:
            changed = self._changed(self.last, now)
            raise NotCaptured(f"{changed!r}, a number outside of the pair, is another in every step")
        self.last = now

    def _changed(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> str | None:
        """The name of the first number that differs."""
        names = (name for name, a, b in zip(self.outside, before, after, strict=True) if a != b)
        return next((name.split(".")[-1] for name in names), None)

    def give_up(self, reason: Exception) -> None:
        """Nothing is replayed from here on."""
        words = str(reason)
        self.why = words if words.endswith("`") else words + self.where
        self.replays.clear()

    @property
    def words(self) -> str:
        """In one line: how steps are taken."""
        if self.why:
            return f"eager: {self.why}"
        if not self.replays:
            return f"eager: {'too few steps' if len(self.eager) <= KINDS else 'other arguments or shapes each time'}"
        machines = [replay.machine for replay in self.replays.values()]
        if any(isinstance(machine, NativeLoop) for machine in machines):
            return "captured once, compiled"
        why = next((f" ({machine})" for machine in machines if isinstance(machine, str)), "")
        return f"captured once, replayed operator by operator{why}"

    def _other_data(self, live: StepInputs) -> bool:
        """Whether this step has other data than the last, for the first few times."""
        before, self.seen = self.seen, tuple(id(t) for t in live.data)
        other = bool(before) and before != self.seen and self.others < PROBES
        self.others += other
        return other
