"""A function of the user's that sees a run every so many steps, and may end it.

    callback(svi, step, loss)      True ends the run

It is called between blocks of compiled steps, which end where it is due; between its calls it costs nothing. The run
goes on as it would have without it: random numbers that it draws, and batches, are not those of the run. Each of
several processes calls it; True in one of them ends the run.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..inputs.arguments import shown, whole_number
from ..runtime.generators import generator_states, set_generator_states, set_torch_states, torch_states
from ..runtime.parameters import constrained, kept_in_place
from ..runtime.workers import everywhere, greatest
from ..stepping.steps import StepBlock, Steps

EVERY = 100  # steps from one call to the next, unless the user says how many


@dataclass
class Callback:
    """Calls the user's function after every `every` steps of a runner, and after the last step of a run."""

    function: Callable[[Any, int, float], Any]
    every: int
    runner: Any  # the SVI
    losses: list[float]  # of the runner so far: their number is that of the steps
    steps: Steps
    generators: dict[str, Any] = field(default_factory=dict)  # after the last call: the next one draws on

    def pause(self, done: int) -> int:
        return done + self.every - len(self.losses) % self.every

    def after(self, block: StepBlock, done: int, last: bool) -> str:
        step = len(self.losses)
        if step % self.every and not last:
            return ""
        workers = self.steps.workers
        with self._own_generators(), undisturbed(self.steps), _watching(self.runner):
            answer = everywhere(workers, lambda: _is_true(self.function(self.runner, step, self.losses[-1])))
        return f"ended by the callback at step {step:,}" if greatest(workers, [answer])[0] else ""

    @contextmanager
    def _own_generators(self) -> Iterator[None]:
        """Inside, random numbers go on where the last call ended; the run finds its generators as they were.

        Compiled steps draw from torch's generators alone, and NumPy's and Python's take longer to copy than such steps.
        """
        get: Callable[[], Any] = generator_states
        put: Callable[[Any], None] = set_generator_states
        kind = "all"
        if self.steps.compiled is not None:
            get, put, kind = torch_states, set_torch_states, "torch"
        of_run = get()
        if kind in self.generators:
            put(self.generators[kind])
        try:
            yield
        finally:
            self.generators[kind] = get()
            put(of_run)


def checked_callback(callback: Any, every: Any) -> int:
    """The number of steps from one call to the next. Raises ValueError for what cannot be called, or is no number."""
    if callback is not None and not callable(callback):
        raise ValueError(f"callback: got {shown(callback)}, wanted a function of (svi, step, loss); True ends the run")
    try:
        if callback is not None:
            inspect.signature(callback).bind(None, 1, 0.0)
    except TypeError as error:
        raise ValueError(
            f"callback: {shown(callback)} does not take the three arguments (svi, step, loss): {error}"
        ) from None
    except ValueError:  # a function written in C has no signature
        pass
    return whole_number("callback_every", every, 1)


@contextmanager
def undisturbed(steps: Steps) -> Iterator[None]:
    """What is computed inside takes no batch or baseline from the steps that follow, and replaces no parameter."""
    baselines = dict(steps.baselines)
    try:
        with kept_in_place(), nullcontext() if steps.batches is None else steps.batches.held():
            yield
    finally:
        steps.baselines.clear()
        steps.baselines.update(baselines)


@contextmanager
def _watching(runner: Any) -> Iterator[None]:
    """Inside, the runner refuses to train. Raises ValueError if what it handed out as its parameters was changed."""
    seen: list[Any] = []
    runner._handed_out = seen
    runner._steps.kept = []  # or a step would be taken again before it is refused
    try:
        yield
    finally:
        runner._handed_out = None
    for params, values in seen:
        for name, (value, version) in values.items():
            if params.get(name) is not value or value._version != version:
                raise ValueError(
                    f"callback: it changed svi.params[{name!r}], which is a copy, so that nothing would follow; write "
                    f"pyro.get_param_store()[{name!r}] = value, which changes the parameter of the run"
                )


def handed_out(seen: list) -> dict[str, torch.Tensor]:
    """The present parameters for a callback, constrained and detached; `seen` keeps them to see whether they change."""
    params = constrained()
    seen.append((params, {name: (value, value._version) for name, value in params.items()}))
    return params


def _is_true(answer: Any) -> bool:
    """Whether an answer is True, also NumPy's or torch's; another object, as a logger may return, ends no run."""
    if isinstance(answer, torch.Tensor):
        return answer.dtype == torch.bool and bool(answer.all())
    return isinstance(answer, bool | np.bool_) and bool(answer)
