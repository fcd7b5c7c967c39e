"""A file that a run writes as it goes, from which the same call goes on exactly where the run was.

    credo.fit(model, guide, x, checkpoint="run.credo")      killed, interrupted, or ended: the same call goes on

The file holds what the next step depends on: the state of the runner (`going_on`), that of the ending with its averages
of the iterates, and the counts of bad steps. It is written between blocks of steps, in one moment: a process that is
killed leaves the file of before. It also holds what tells the run from another one: options, digests of the data, and
log densities of the sites, so that another model, other data or another seed are refused.

The processes of a job have one file: the first of them writes and reads it, and tells the others, who need not see its
disk. They differ in nothing but their random generators, of which the file keeps those of each.
"""

import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..pair.identity import FEW, Identity, data_identity, differences, pair_identity, settings_identity
from ..runtime.workers import Workers, agreed
from ..stepping.bad_steps import BadSteps
from ..stepping.steps import StepBlock
from ..storage.container import read, write
from ..storage.kept import Kept
from ..storage.noise_of_ranks import OF_RANKS, generators_of_ranks, put_own_generators, refuse_other_number
from ..storage.values import described, restored
from .course import Course, warmup_of
from .endings import Ending, FixedSteps
from .going_on import plain_fields, put_fields, put_runner_state, runner_state
from .held_out import ENDED, HeldOut
from .loop import INTERRUPTED

KIND = "checkpoint"
# Unless the user says how many steps: seconds between two writings at least, and times what one takes.
SECONDS, COST = 10.0, 100
ASK = 1.0  # seconds, after which processes ask the first of them again whether it is time to write


class Place(NamedTuple):
    """Where a run goes on: after so many steps; why it had ended, empty if it had not; the steps of its warm-up."""

    done: int
    stopped: str
    warmup: int


@dataclass
class Checkpoint:
    """Writes the file of a run while it goes, as one of the watches of its loop, and reads it at the beginning."""

    asked: Kept
    course: Course
    ending: Ending
    bad: BadSteps
    steps: int | None  # of the run; None: until converged
    held: HeldOut | None = None  # the looks at held-out rows, if there are any
    workers: Workers | None = None  # the processes of the run
    identity: dict[str, Any] = field(default_factory=dict)
    warmup: int = 0
    begun: float = field(default_factory=time.process_time)
    done: int = 0
    torn: bool = False  # whether a step, or what follows it, was interrupted
    written: int = -1  # the number of steps done in the file
    at: float = 0.0  # when it was written
    cost: float = 0.0  # seconds that took
    failed: str = ""  # why it could not be written
    ask: int = 0  # the number of steps done at which processes ask the first again whether it is time

    def open(self) -> Place:
        """Where the run goes on; after no step if there is no file yet, which is then written, to see that it can be.

        Raises ValueError for a file that holds another run, or none, and OSError where no file can be written.
        """
        course, options = self.course, {**self.asked.options, "device": course_device(self.course)}
        if course.settings.schedule is not None:
            options |= {"lr at steps 0, 1, 10, 100 and 1000": course.settings.schedule.some_rates()}
        self.identity = settings_identity(options) | data_identity(course.pair.data, course.given.names)
        self.warmup = warmup_of(course, self.steps)
        if not agreed(self.workers, lambda: os.path.exists(self.asked.path)):
            self._write("")
            return Place(0, "", self.warmup)
        place = self._read()
        self.done = self.written = place.done
        self.at = time.monotonic()
        return place

    def close(self, stopped: str) -> None:
        """Writes where and why the run ended, or where Ctrl-C interrupted it, so that it goes on with the next call.

        From the middle of a step nothing can go on: the file of before stays.
        """
        interrupted = stopped.startswith(INTERRUPTED)
        if not interrupted or (not self.torn and self.done != self.written):
            self._try_to_write("" if interrupted else stopped)
        if self.failed:
            self.course.warnings.append(
                f"checkpoint: {self.asked.path} could not be written ({self.failed}); it holds the run after "
                f"{self.written:,} of {self.done:,} steps. This fit is complete: keep it with fit.save(path)"
            )

    def pause(self, done: int) -> int:
        return sys.maxsize if self.asked.every is None else done + self.asked.every - done % self.asked.every

    def after(self, block: StepBlock, done: int, last: bool) -> str:
        if not last and self._is_due(done):
            self._try_to_write("")
        return ""

    def _is_due(self, done: int) -> bool:
        """Whether it is time to write. By the clock: by that of the first process, which says when to ask it again."""
        every, waited = self.asked.every, time.monotonic() - self.at
        if every is not None:
            return done % every == 0
        wanted = max(SECONDS, COST * self.cost)
        if self.workers is None:
            return waited >= wanted
        if done < self.ask:
            return False
        each = waited / max(1, done - self.written)  # seconds of a step
        due, self.ask = agreed(self.workers, lambda: (waited >= wanted, done + max(1, int(ASK / max(each, 1e-9)))))
        return due

    def _try_to_write(self, stopped: str) -> None:
        """The file of before stays, and the run goes on, where a disk is full say."""
        try:
            self._write(stopped)
            self.failed = ""
        except OSError as error:
            self.failed, self.at = str(error), time.monotonic()

    def _write(self, stopped: str) -> None:
        begun, generators = time.monotonic(), generators_of_ranks(self.workers)
        agreed(self.workers, lambda: self._write_alone(stopped, generators))
        self.written, self.at = self.done, time.monotonic()
        self.cost = self.at - begun

    def _write_alone(self, stopped: str, generators: list[dict[str, Any]] | None) -> None:
        """The file by the first process. generators: of each, where they differ."""
        course = self.course
        state: dict[str, Any] = {
            "identity": self.identity,
            "sites": pair_identity(course.pair, course.prepared.rows),
            "runner": runner_state(course.steps, course.races, course.losses, course.plans.now()),
            "steps": self.steps,
            "ending": type(self.ending).__name__,
            "ending's": plain_fields(self.ending),
            "bad": plain_fields(self.bad),
            "held out": None if self.held is None else plain_fields(self.held, {"losses"}),
            "warnings": list(course.warnings),
            "warmup": self.warmup,
            "seconds": self.asked.spent + time.process_time() - self.begun,
            "done": self.done,
            "stopped": stopped,
        }
        if generators is not None:
            state[OF_RANKS] = generators
        tensors: dict[str, Any] = {}
        write(self.asked.path, KIND, {"run": described(state, tensors)}, tensors)

    def _read(self) -> Place:
        path, course = self.asked.path, self.course
        found, tensors = agreed(self.workers, lambda: read(path, KIND))
        state = restored(found["run"], tensors)
        self._refuse(differences(self.identity, state["identity"]))
        if self.steps is not None and self.steps < state["done"]:
            raise ValueError(
                f"steps: got {self.steps:,}, but the run in {path} has taken {state['done']:,} steps; ask for as many "
                f"or more, or delete the file to begin anew"
            )
        refuse_other_number(path, state.get(OF_RANKS), self.workers)
        try:
            runner = course.steps, course.races, course.losses
            course.plans.replace(put_runner_state(state["runner"], *runner, course.plans.now()))
        except ValueError as error:
            self._refuse([str(error)])
        agreed(self.workers, lambda: self._refuse(self._other_sites(state["sites"])))
        put_own_generators(state.get(OF_RANKS), self.workers)
        same = (state["ending"], state["steps"]) == (type(self.ending).__name__, self.steps)
        if same:
            put_fields(self.ending, state["ending's"])
        elif (
            isinstance(self.ending, FixedSteps)
            and state["done"] > self.ending.averaged_from
            and "tail" in state["ending's"]
        ):
            put_fields(self.ending.tail, state["ending's"]["tail"])
        put_fields(self.bad, state["bad"])
        if self.held is not None:
            put_fields(self.held, state["held out"])
        course.warnings.extend(warning for warning in state["warnings"] if warning not in course.warnings)
        self.asked.spent, self.warmup = state["seconds"], state["warmup"]
        ended = same or state["stopped"].startswith(ENDED)  # more steps change nothing of that
        return Place(state["done"], state["stopped"] if ended else "", self.warmup)

    def _other_sites(self, sites: Identity) -> list[str]:
        return differences(pair_identity(self.course.pair, self.course.prepared.rows), sites)

    def _refuse(self, differences: list[str]) -> None:
        if differences:
            more = f" and {len(differences) - FEW} more" if len(differences) > FEW else ""
            raise ValueError(
                f"checkpoint: {self.asked.path} is of another run: {'; '.join(differences[:FEW])}{more}. Call as "
                f"before to go on with it, or pass another path, or delete the file, to begin anew"
            )


@dataclass
class Whole:
    """Notes the steps that are done, before callbacks, which may change the run, see, or interrupt it."""

    file: Checkpoint

    def pause(self, done: int) -> int:
        return sys.maxsize

    def after(self, block: StepBlock, done: int, last: bool) -> str:
        self.file.done, self.file.torn = done, False
        return ""


def course_device(course: Course) -> str:
    """The kind of device that a run computes on: generators of another kind draw other numbers."""
    return course.prepared.state.device.type
