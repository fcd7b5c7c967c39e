"""The runner for programs written for Pyro: `pyro.infer.SVI`, with a record of the losses and a run that returns a fit.

Parameters live in Pyro's own store, where the next lines of such a program (`pyro.param`, `Predictive`) look for them.
"""

from typing import Any, NoReturn

import pyro.infer
import torch

from ..pair.pair import Pair
from ..planning.plan import Plan
from ..runtime.parameters import constrained
from .endings import FixedSteps
from .loop import NotFinite, loop
from .result import Diverged, Fit, finished
from .steps import StepBlock

OWN = {"lr", "particles", "batch_size", "plan", "force", "seed", "device", "compile", "progress"}  # credo's, not Pyro's


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

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The parameters in Pyro's store, constrained and detached."""
        return constrained()

    def step(self, *data: Any, **keywords: Any) -> float:
        """One update of the parameters in Pyro's store. Returns the loss before it, in nats."""
        self.losses.append(super().step(*data, **keywords))
        return self.losses[-1]

    def run(self, *data: Any, steps: int | None = None) -> Fit:
        """So many steps; the fit holds the last iterate, as Pyro does. Ctrl-C returns the fit so far."""
        if steps is None:
            raise ValueError("steps: a run with a Pyro optimiser does not stop by itself; pass steps=...")
        try:
            _, stopped = loop(
                lambda most: StepBlock([self.step(*data)], torch.zeros(0)), FixedSteps(steps), total=steps
            )
        except NotFinite as error:
            raise Diverged(str(error), self._fit_now(data, str(error))) from None
        return self._fit_now(data, stopped)

    def prepare(self, *data: Any) -> NoReturn:
        """Raises TypeError: a run of Pyro's has no plan."""
        raise TypeError("a runner with a Pyro optimiser has no plan, races and gradients; leave out optim and loss")

    race = gradients = prepare

    def _fit_now(self, data: tuple, stopped: str) -> Fit:
        return finished(self.model, Pair(self.model, self.guide, data), self.losses, Plan(()), stopped, 0, ())
