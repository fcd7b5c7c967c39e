"""The runner for programs written for Pyro: `pyro.infer.SVI`, with a record of the losses and a run that returns a fit.

Parameters live in Pyro's own store, where the next lines of such a program (`pyro.param`, `Predictive`) look for them.
"""

from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import pyro.infer
import torch
from pyro import poutine

from ..inputs.call import argument_names, by_name
from ..pair.autoguide import latents_alone
from ..pair.pair import Pair
from ..pair.summed_out import to_sum_out
from ..planning.plan import Plan
from ..preflight.check import checked
from ..preflight.stream import Stream
from ..runtime.generators import generator_states, noise
from ..runtime.interrupts import CtrlC, interruptible
from ..runtime.parameters import constrained
from ..runtime.reachable import find_modules
from ..runtime.state import State, entered, own_modules, snapshot
from ..stepping.bad_steps import NotFinite
from ..stepping.steps import StepBlock
from .caller import warning_caller
from .endings import FixedSteps
from .loop import loop
from .result import Diverged, Fit, finished
from .run import keep_fit

# Credo's options, not Pyro's.
OWN = {"lr", "clip", "particles", "batch_size", "plan", "force", "seed", "device", "compile", "precision", "progress"}

ELBOS = (pyro.infer.Trace_ELBO, pyro.infer.TraceGraph_ELBO, pyro.infer.TraceEnum_ELBO)  # the losses of sound pairs


class PyroSVI(pyro.infer.SVI):
    """Takes what `pyro.infer.SVI` takes; the loss is Trace_ELBO if left out. losses: -ELBO at each step, nats."""

    plan: Plan | None = None  # Pyro's ELBO decides

    def __init__(self, model: Any, guide: Any, optim: Any, loss: Any = None, **options: Any) -> None:
        if own := options.keys() & OWN:
            raise ValueError(
                f"optim: with a Pyro optimiser the runner is Pyro's, which takes no {min(own)}=; pass an optimiser of "
                f"torch's by its class (torch.optim.Adam), or leave out {', '.join(sorted(own))}"
            )
        super().__init__(model, guide, optim, loss or pyro.infer.Trace_ELBO(), **options)
        self.losses: list[float] = []
        self._stream = Stream()
        self._last: Any = None  # (data, keywords) of the last call
        self._sums_out = isinstance(loss, pyro.infer.TraceEnum_ELBO)
        self._checks = loss is None or isinstance(loss, ELBOS)  # other losses may ask for other pairs

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The parameters in Pyro's store, constrained and detached."""
        return constrained()

    def step(self, *data: Any, **keywords: Any) -> float:
        """One update of the parameters in Pyro's store. Returns the loss before it, in nats.

        Before the first step, mistakes in the pair are warned of; later, batches that count as if they were all data.
        """
        warnings, self._last = self._mistakes(data, keywords), (data, keywords)
        with warning_caller(warnings):
            loss = self._step(data, keywords)
            if self._checks:
                with suppress(Exception):  # of another run of the user's code: the step is taken, its warning not due
                    given = by_name(self.model, data, keywords, ())
                    self._stream.next(Pair(self.model, latents_alone(self.guide), given), None, [], warnings)
            return loss

    def run(self, *data: Any, steps: int | None = None, **named: Any) -> Fit:
        """So many steps; the fit holds the last iterate, as Pyro does. Ctrl-C returns the fit so far."""
        warnings: list[str] = []
        found: list[Fit] = []
        if steps is None:
            raise ValueError("steps: a run with a Pyro optimiser does not stop by itself; pass steps=...")
        data = by_name(self.model, data, named, ("steps",))
        self._last = data, {}
        with interruptible() as ctrl_c, warning_caller(warnings, found):
            try:
                ctrl_c.raises = True
                warnings += self._mistakes(data, {})
            except KeyboardInterrupt:
                ctrl_c.presses = max(1, ctrl_c.presses)  # no step is taken
            finally:
                ctrl_c.raises = False
            found.append(self._loop(data, steps, ctrl_c))
        return found[0]

    def prepare(self, *data: Any) -> NoReturn:
        """Raises TypeError: a run of Pyro's has no plan."""
        raise TypeError("a runner with a Pyro optimiser has no plan, races and gradients; leave out optim and loss")

    race = gradients = prepare

    def fit(self, *data: Any, **named: Any) -> Fit:
        """The `Fit` of the parameters in Pyro's store, without another step."""
        if not (data or named) and self._last is None:
            raise ValueError("fit: the runner has seen no data yet; pass them, svi.fit(*data), or take a step first")
        data, named = (data, named) if data or named else self._last or ((), {})
        return self._fit_now(by_name(self.model, data, named, ()), f"after {len(self.losses):,} steps of Pyro's")

    def state_dict(self) -> NoReturn:
        """Raises TypeError: parameters and optimiser of such a run are kept by Pyro."""
        raise TypeError(
            "a runner with a Pyro optimiser keeps its parameters in Pyro's store: save them by "
            "pyro.get_param_store().save(path), and the optimiser by optim.save(path)"
        )

    def load_state_dict(self, state: Any) -> NoReturn:
        """Raises TypeError, as `state_dict` does."""
        self.state_dict()

    def _loop(self, data: tuple, steps: int, ctrl_c: CtrlC) -> Fit:
        def take_step(most: int) -> StepBlock:
            return StepBlock([self._step(data, {})], torch.zeros(0))

        try:
            _, stopped = loop(take_step, FixedSteps(steps), total=steps, ctrl_c=ctrl_c)
        except NotFinite as error:
            raise Diverged(str(error), self._fit_now(data, str(error))) from error.__cause__
        except Exception as error:
            if self.losses:
                keep_fit(error, self._fit_now(data, f"{type(error).__name__} after {len(self.losses):,} steps"))
            raise
        return self._fit_now(data, stopped)

    def _step(self, data: tuple, keywords: dict[str, Any]) -> float:
        self.losses.append(super().step(*data, **keywords))
        return self.losses[-1]

    def _mistakes(self, data: tuple, keywords: dict[str, Any]) -> list[str]:
        """What `checked` warns of and refuses, before the first step; parameters and generators stay as they are."""
        if self.losses or not self._checks:
            return []
        programs = (self.model, latents_alone(self.guide))
        model, guide = (partial(program, **keywords) if keywords else program for program in programs)
        store = dict(pyro.get_param_store().get_state())
        modules = own_modules(find_modules((model, guide, data)))
        with entered(snapshot(State(store, modules, generator_states()))):
            try:
                return checked(model, guide, data, argument_names(model, len(data))).warnings
            except ValueError as error:
                return [str(error)]
            except Exception:  # the first step raises it again, in Pyro's words
                return []

    def _fit_now(self, data: tuple, stopped: str) -> Fit:
        pair = Pair(self.model, self.guide, data)
        if self._sums_out:
            with noise(0), torch.no_grad():
                guide = poutine.trace(self.guide).get_trace(*data)
                pair = pair._replace(
                    summed=to_sum_out(poutine.trace(poutine.replay(self.model, trace=guide)).get_trace(*data), guide)
                )
        return finished(self.model, pair, self.losses, Plan(()), stopped, 0)
