"""The runner for programs written for Pyro: `pyro.infer.SVI`, with a record of the losses and a run that returns a fit.

Parameters live in Pyro's own store, where the next lines of such a program (`pyro.param`, `Predictive`) look for them.
"""

from typing import Any

import pyro.infer
import torch

from ..pair.pair import Pair
from ..planning.plan import Plan
from .loop import NotFinite, loop
from .result import Diverged, Fit, finished
from .steps import Block


class PyroSVI(pyro.infer.SVI):
    """Takes what `pyro.infer.SVI` takes; the loss is Trace_ELBO if left out. losses: -ELBO at each step, nats."""

    def __init__(self, model: Any, guide: Any, optim: Any, loss: Any = None, **options: Any) -> None:
        super().__init__(model, guide, optim, loss or pyro.infer.Trace_ELBO(), **options)
        self.losses: list[float] = []

    def step(self, *data: Any, **keywords: Any) -> float:
        """One update of the parameters in Pyro's store. The loss before it, in nats."""
        self.losses.append(super().step(*data, **keywords))
        return self.losses[-1]

    def run(self, *data: Any, steps: int | None = None) -> Fit:
        """So many steps; the fit holds the last iterate, as Pyro does. Ctrl-C returns the fit so far."""
        if steps is None:
            raise ValueError("steps: a run with a Pyro optimiser does not stop by itself; pass steps=...")
        try:
            _, stopped = loop(lambda most: Block([self.step(*data)], torch.zeros(0)), None, steps=steps)
        except NotFinite as error:
            raise Diverged(str(error), self._fit(data, str(error))) from None
        return self._fit(data, stopped)

    def _fit(self, data: tuple, stopped: str) -> Fit:
        return finished(self.model, Pair(self.model, self.guide, data), self.losses, Plan(()), stopped, 0, ())
