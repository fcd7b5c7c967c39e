"""What a run returns."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyro
import torch
from pyro import poutine
from torch import nn

from ..pair.pair import Pair, Summed
from ..pair.summed_out import SUMMED_OUT
from ..planning.plan import Plan
from ..posterior.marginals import summary
from ..posterior.predict import predict
from ..runtime.parameters import constrained
from ..runtime.reachable import find_modules
from ..runtime.sites import latent, refuse_subsampled
from ..runtime.state import State, own_modules, reading, refuse_unknown, snapshot
from ..runtime.vectorise import draw


@dataclass(frozen=True, repr=False, eq=False)
class Fit:
    """A guide with the parameters a run found, cut loose from the run: nothing trained later changes it.

    params: {name: constrained value}. losses: -ELBO at each step, nats. plan: the estimators at the end of the run.
    stopped: why the run ended. data: the arguments it was run on, as tensors. seed: of the run.
    columns: the column names of each argument that came as a table.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    data: tuple[Any, ...]
    params: dict[str, torch.Tensor]
    losses: tuple[float, ...]
    plan: Plan
    stopped: str
    seed: int
    columns: tuple[list[str] | None, ...]
    state: State
    summed: Summed | None = None  # the model's latents that the guide does not have

    def sample(self, n: int = 1000, *, seed: int = 0) -> dict[str, torch.Tensor]:
        """n draws z ~ q: {site: shape (n, *shape of the site)}."""
        if n < 1:
            raise ValueError(f"n: got {n}, wanted at least one draw")
        with reading(self.state, seed):
            return draw(lambda: _values(poutine.trace(self.guide).get_trace(*self.data)), n)

    def predict(self, n: int, *new: Any, seed: int = 0, prior: bool = False) -> dict[str, torch.Tensor]:
        """n draws of the observed sites for new data (the training data if none is given); see `credo.predict`."""
        return predict(self, n, *new, seed=seed, prior=prior)

    def trained(self, net: nn.Module) -> nn.Module:
        """A copy of this network with the weights the run gave it, in evaluation mode; the fit does not change with it.

        Raises ValueError for a network the run has not met.
        """
        refuse_unknown(self.state, (net,))
        with reading(self.state, 0):
            return copy.deepcopy(net)

    def summary(self, n: int = 4000, *, seed: int = 0) -> pd.DataFrame:
        """A row for each scalar of each latent: mean and sd (exact where the guide knows them), and quantiles."""
        return summary(self, n, seed)

    def __repr__(self) -> str:
        tail = self.losses[-max(1, len(self.losses) // 10) :]
        loss = f"-ELBO {sum(tail) / len(tail):,.2f} nats (mean of the last {len(tail):,} steps)" if tail else "no step"
        sites = ", ".join(e.site for e in self.plan.entries if e.estimator != SUMMED_OUT) or "none planned"
        return f"Fit: {loss}; {len(self.losses):,} steps; stopped: {self.stopped}; latents: {sites}"


def finished(
    model: Callable[..., Any], pair: Pair, losses: list[float], plan: Plan, stopped: str, seed: int, columns: tuple
) -> Fit:
    """The fit of a run that is entered now: a copy of the current store and of the modules of the pair."""
    modules = own_modules(find_modules((pair.model, pair.guide, pair.data)))
    return Fit(
        model=model,
        guide=pair.guide,
        data=pair.data,
        params=constrained(),
        losses=tuple(losses),
        plan=plan,
        stopped=stopped,
        seed=seed,
        columns=columns,
        state=snapshot(State(dict(pyro.get_param_store().get_state()), modules)),
        summed=pair.summed,
    )


class Diverged(ArithmeticError):
    """The loss left the finite numbers. `.fit` is the fit with the last finite average of the parameters."""

    def __init__(self, message: str, fit: Fit) -> None:
        super().__init__(
            f"{message}; .fit holds what was learnt until then. A smaller lr, more particles, or starting values "
            f"nearer to the data usually help"
        )
        self.fit = fit


def _values(trace: poutine.Trace) -> dict[str, torch.Tensor]:
    sites = latent(trace)
    refuse_subsampled(sites)
    return {name: site["value"] for name, site in sites.items()}
