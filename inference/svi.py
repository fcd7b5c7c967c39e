"""The one runner: stochastic variational inference for any Pyro model and guide.

    minimise over the parameters of q:   -ELBO = E_q[log q(z) - log p(data, z)]     nats, for the whole data set

A run owns its parameters and its random state (see `scope`), picks an estimator for each latent (`plan`), checks the
pair before the first step (`preflight`), stops when it has come to rest (`convergence`), and returns a `Fit`.
"""

import math
import operator
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from .arguments import argument_names, column_names, in_double, tensors
from .automatic import with_guide
from .draws import can_vectorise
from .elbo import Pair, Program, differentiable_loss, log_weight
from .fit import Diverged, Fit, finished
from .loop import NotFinite, loop
from .measure import gain, gradients, quieter_term
from .plan import Plan, make_plan
from .preflight import check
from .pyro_svi import PyroSVI
from .scope import State, choose_device, constrained, entered, find_modules, new_state, refuse_unknown, unconstrained
from .sites import latent

LR = 0.02  # of Adam, in unconstrained space
BETAS = (0.9, 0.99)  # a short memory: gradients of scales shrink by orders of magnitude on the way
PARTICLES = 8  # where they come at nearly the cost of one: drawn all at once, on data of at most SMALL numbers
SMALL = 2**18


class SVI:
    """The runner for a loop of one's own: `.step(*data)` and, at any time, `.run(*data)` to go on until converged.

    Takes what `credo.fit` takes. With `optim` (a `pyro.optim` optimiser) and `loss` it is `pyro.infer.SVI` to the
    letter (see `pyro_svi`), so that a Pyro program runs after changing one import.
    """

    def __new__(cls, model: Program, guide: Any = None, optim: Any = None, loss: Any = None, **options: Any) -> Any:
        if optim is None:
            return super().__new__(cls)
        if own := options.keys() & {"lr", "particles", "plan", "seed", "device", "progress"}:
            raise ValueError(f"{min(own)}: with a Pyro optimiser the runner is Pyro's and takes what that takes")
        return PyroSVI(model, guide, optim, loss, **options)

    def __init__(
        self,
        model: Program,
        guide: Program | str | None = None,
        optim: None = None,
        loss: None = None,
        *,
        lr: float = LR,
        particles: int | None = None,
        plan: Mapping[str, str] | Plan | None = None,
        seed: int = 0,
        device: str | torch.device | None = None,
        progress: bool = True,
    ) -> None:
        if loss is not None and optim is None:
            raise ValueError("loss: got a loss without optim; pass both, as to pyro.infer.SVI, or neither")
        self._particles = None if particles is None else _whole("particles", particles, 1)
        if not lr > 0:
            raise ValueError(f"lr: got {lr}, wanted a positive learning rate")
        self.model, self.guide = with_guide(model, guide)
        self.plan: Plan | None = None
        self.losses: list[float] = []
        self._user_model, self._overrides, self._seed = model, plan, _whole("seed", seed, 0)
        self._lr, self._progress = lr, progress
        self._device = choose_device(device)
        self._state: State | None = None

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The parameters as they are now, constrained and detached; empty before the first step."""
        if self._state is None:
            return {}
        with entered(self._state):
            return constrained()

    def prepare(self, *data: Any) -> Plan:
        """Meet the data: make the parameters, check the pair, choose the estimators. The first step does so too."""
        if self.plan is None:
            things = (self.model, self.guide, data)
            dtype = torch.float64 if in_double(find_modules(things)) else torch.float32
            if not self._meet(data, dtype, or_double=dtype != torch.float64):
                self._meet(data, torch.float64)
        assert self.plan is not None
        return self.plan

    def step(self, *data: Any) -> float:
        """One update of the parameters. The estimate of -ELBO before it, nats; if not finite, nothing was updated."""
        pair, state = self._begin(data)
        with entered(state):
            return self._update(pair)

    def run(self, *data: Any, steps: int | None = None) -> Fit:
        """Go on from where the parameters are, until converged or for so many steps; see `credo.fit`."""
        steps = None if steps is None else _whole("steps", steps, 0)
        new = self.plan is not None  # data that nothing has looked at yet
        pair, state = self._begin(data)
        with entered(state):
            if new:
                check(self.model, self.guide, pair.data, argument_names(self._user_model, len(pair.data)))
            self._set_rate(1.0)
            try:
                average, stopped = loop(
                    step=lambda: self._update(pair),
                    parameters=lambda: parameters_to_vector(p.detach() for p in unconstrained().values()),
                    gain=lambda new, old: gain(
                        pair, self._vectorised, new, old, seed=self._seed * 1000 + len(self.losses)
                    ),
                    look=lambda rate: self._look(pair, rate),
                    steps=steps,
                    progress=self._progress,
                )
            except NotFinite as error:
                raise Diverged(str(error), self._fit(pair, error.average, str(error), data)) from None
            return self._fit(pair, average, stopped, data)

    def gradients(self, *data: Any) -> dict[str, torch.Tensor]:
        """{parameter: one draw of the gradient of -ELBO in unconstrained space, in nats}; no parameter is updated."""
        pair, state = self._begin(data)
        with entered(state):
            return gradients(lambda: self._loss(pair)[1])

    def evaluate_loss(self, *data: Any) -> float:
        """An estimate of -ELBO in nats; no parameter is updated."""
        pair, state = self._begin(data)
        with entered(state), torch.no_grad():
            return self._loss(pair)[0]

    def _begin(self, data: tuple) -> tuple[Pair, State]:
        """The pair on the data as tensors, and the run's state."""
        self.prepare(*data)
        assert self._state is not None
        refuse_unknown(self._state, data)
        return Pair(self.model, self.guide, tensors(self._user_model, data, self._dtype, self._device)), self._state

    def _meet(self, data: tuple, dtype: torch.dtype, or_double: bool = False) -> bool:
        """Set the run up for the data in this precision; False if the model turns out to work in double."""
        values = tensors(self._user_model, data, dtype, self._device)
        state = new_state((self.model, self.guide, data), self._seed, self._device)
        with entered(state):
            try:
                trace = check(self.model, self.guide, values, argument_names(self._user_model, len(values)))
            except RuntimeError as error:
                if or_double and "dtype" in str(error) and "ouble" in str(error):
                    return False
                raise
            drawn = {getattr(site["value"], "dtype", None) for site in latent(trace).values()}
            if or_double and torch.float64 in drawn:
                return False
            if not unconstrained():
                raise ValueError("the pair has no parameters to train; write them with pyro.param in the guide")
            self.plan = make_plan(trace, self._overrides)
            self._vectorised = can_vectorise(lambda: log_weight(Pair(self.model, self.guide, values)))
            self._optimiser = torch.optim.Adam(unconstrained().values(), lr=self._lr, betas=BETAS)
        if self._particles is None:
            small = sum(v.numel() for v in values if isinstance(v, torch.Tensor)) <= SMALL
            cheap = self._vectorised and small and not self.plan.needs_score
            self._particles = PARTICLES if cheap else 1
        self._state, self._dtype = state, dtype
        return True

    def _loss(self, pair: Pair) -> tuple[float, torch.Tensor]:
        assert self.plan is not None and self._particles is not None
        try:
            return differentiable_loss(self.plan, pair, self._particles, self._vectorised)
        except RuntimeError as error:
            if not self._vectorised or not any(word in str(error) for word in ("vmap", "functorch")):
                raise
            self._vectorised = False  # the program has changed, say by making a parameter: draws one by one from here
            return self._loss(pair)

    def _update(self, pair: Pair) -> float:
        self._optimiser.zero_grad()
        value, loss = self._loss(pair)
        if not math.isfinite(value):
            return value
        loss.backward()
        known = {id(p) for group in self._optimiser.param_groups for p in group["params"]}
        for name, p in unconstrained().items():
            if id(p) not in known:  # made by a later call of the guide
                self._optimiser.add_param_group({"params": [p]})
            if p.grad is None and not self.losses:
                warnings.warn(f"parameter {name!r} gets no gradient: is it detached, or used by no site?", stacklevel=5)
        self._optimiser.step()
        self.losses.append(value)
        return value

    def _look(self, pair: Pair, rate: float) -> None:
        """Choose the estimators anew, and scale the learning rate."""
        assert self.plan is not None and self._particles is not None
        self.plan = quieter_term(pair, self.plan, self._particles, self._vectorised)
        self._set_rate(rate)

    def _set_rate(self, rate: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._lr * rate

    def _fit(self, pair: Pair, average: torch.Tensor | None, stopped: str, data: tuple) -> Fit:
        if average is not None:
            with torch.no_grad():
                vector_to_parameters(average, unconstrained().values())
        assert self.plan is not None
        columns = column_names(self._user_model, data)
        return finished(self._user_model, pair, self.losses, self.plan, stopped, self._seed, columns)


def fit(
    model: Program,
    guide: Program | str | None,
    *data: Any,
    steps: int | None = None,
    lr: float = LR,
    particles: int | None = None,
    plan: Mapping[str, str] | Plan | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> Fit:
    """The guide q that minimises -ELBO = E_q[log q(z) - log p(data, z)], nats (Jordan et al. 1999, eq. 34).

    model, guide: functions of the data with the same latent sites. guide=None: a mean-field guide is made; "map" and
        "mle": point estimates with and without the prior.
    data: tensors, NumPy arrays, pandas Series; one DataFrame alone is matched to the model's arguments by column name.
    steps: None runs until converged (at most 50,000 steps). A number runs that many. Both return the average of the
        last iterates.
    lr: Adam's learning rate in unconstrained space. particles: draws of the guide in each step; None: 8
        where they can be drawn at once and the data is small, else 1.
    plan: overrides of the estimators, {site: "pathwise" | "score"}, or the plan of an earlier fit.
    seed: all randomness of the run. device: None is CUDA if there is one, else the CPU.

    Raises ValueError before the first step for data that cannot be learnt from and for a guide that does not match its
    model; `Diverged`, with what was learnt until then in `.fit`, if the loss leaves the finite numbers. Ctrl-C returns
    the fit so far.
    """
    runner = SVI(model, guide, lr=lr, particles=particles, plan=plan, seed=seed, device=device, progress=progress)
    return runner.run(*data, steps=steps)


def _whole(name: str, value: Any, least: int) -> int:
    if not hasattr(value, "__index__") or operator.index(value) < least:
        raise ValueError(f"{name}: got {value!r}, wanted a whole number of at least {least}")
    return operator.index(value)
