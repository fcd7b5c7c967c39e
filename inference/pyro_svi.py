"""The runner for programs written for Pyro: `pyro.infer.SVI` to the letter, with a record of the losses.

Parameters live in Pyro's own store, where the next lines of such a program (`pyro.param`, `Predictive`) look for them.
"""

from typing import Any

import pyro.infer
import torch

from .fit import Fit
from .loop import loop
from .plan import Plan
from .scope import State, constrained, find_modules, own_modules, snapshot


class PyroSVI(pyro.infer.SVI):
    """model, guide, optim, loss: as for `pyro.infer.SVI`; the loss is Trace_ELBO if left out. losses: -ELBO, nats."""

    def __init__(self, model: Any, guide: Any, optim: Any, loss: Any = None) -> None:
        super().__init__(model, guide, optim, loss or pyro.infer.Trace_ELBO())
        self.losses: list[float] = []

    def step(self, *data: Any, **keywords: Any) -> float:
        """One update of the parameters in Pyro's store. The loss before it, in nats."""
        self.losses.append(super().step(*data, **keywords))
        return self.losses[-1]

    def run(self, *data: Any, steps: int | None = None) -> Fit:
        """So many steps; the fit holds the last iterate, as Pyro does. Ctrl-C returns the fit so far."""
        if steps is None:
            raise ValueError("steps: a run with a Pyro optimiser does not stop by itself; pass steps=...")
        _, stopped = loop(lambda: self.step(*data), lambda: torch.zeros(0), None, steps=steps)
        return Fit(
            model=self.model,
            guide=self.guide,
            data=data,
            params=constrained(),
            losses=tuple(self.losses),
            plan=Plan(()),
            stopped=stopped,
            seed=0,
            state=snapshot(
                State(
                    dict(pyro.get_param_store().get_state()), own_modules(find_modules((self.model, self.guide, data)))
                )
            ),
        )
