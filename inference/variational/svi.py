"""The one runner: stochastic variational inference for any Pyro model and guide.

    minimise over the parameters of q:   -ELBO = E_q[log q(z) - log p(data, z)]     nats, for the whole data set

A run owns its parameters and its random state (see `scope`), meets its data (`prepare`: the pair is checked and each
latent gets an estimator), stops when it has come to rest (`convergence`), and returns a `Fit`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from ..capture.captures import Captures
from ..capture.outside import place, scalars
from ..objective.gradients import gradients
from ..pair.autoguide import with_guide
from ..pair.batches import Shuffled
from ..pair.pair import Pair, Program
from ..planning.plan import Plan
from ..planning.race import SECOND, race
from ..preflight.check import check
from ..runtime.arguments import argument_names, choose_device, column_names, tensors, whole_number, works_in_double
from ..runtime.parameters import constrained, place_parameters, unconstrained
from ..runtime.reachable import find_modules
from ..runtime.state import entered, refuse_unknown
from .convergence import Gain
from .gain import elbo_gain
from .loop import NotFinite, loop
from .optimiser import is_torchs, optimiser
from .prepare import InDouble, Prepared, prepare
from .pyro_svi import PyroSVI
from .recheck import warn_of_jumps
from .result import Diverged, Fit, finished
from .steps import EAGER, LONG, Block, Steps

T = TypeVar("T")


LR = 0.02  # of Adam, in unconstrained space


SHARE, START = 0.05, 200  # of a run's work may go into races on the way; steps for which one is worth its while


AT_A_FALL = 64  # gradients for a race where the learning rate falls


MANY, LONGEST = 150, 1000  # parameters from which on a stage has a longest length, and that length in steps


OWN = {"lr", "particles", "batch_size", "plan", "force", "seed", "device", "compile", "progress"}  # not Pyro's


class SVI:
    """The runner for a loop of one's own: `.step(*data)` and, at any time, `.run(*data)` to go on until converged.

    Takes what `credo.fit` takes. With a `pyro.optim` optimiser and `loss` it is `pyro.infer.SVI` to the letter (see
    `pyro_svi`), so that a Pyro program runs after changing one import.
    """

    def __new__(cls, model: Program, guide: Any = None, optim: Any = None, loss: Any = None, **options: Any) -> Any:
        if optim is None or is_torchs(optim):
            return super().__new__(cls)
        if own := options.keys() & OWN:
            raise ValueError(
                f"optim: with a Pyro optimiser the runner is Pyro's, which takes no {min(own)}=; pass an optimiser of "
                f"torch's by its class (torch.optim.Adam), or leave out {', '.join(sorted(own))}"
            )
        return PyroSVI(model, guide, optim, loss, **options)

    def __init__(
        self,
        model: Program,
        guide: Program | str | None = None,
        optim: Callable[..., torch.optim.Optimizer] | None = None,
        loss: None = None,
        *,
        lr: float = LR,
        particles: int | None = None,
        batch_size: int | None = None,
        plan: Mapping[str, str] | Plan | str | None = None,
        force: bool = False,
        seed: int = 0,
        device: str | torch.device | None = None,
        compile: bool = True,
        progress: bool = True,
    ) -> None:
        if loss is not None:
            raise ValueError("loss: got a loss without optim; pass both, as to pyro.infer.SVI, or neither")
        if isinstance(plan, str) and plan != "fast":
            raise ValueError(f"plan: got {plan!r}, wanted 'fast', a Plan, or a mapping of sites to estimators")
        if not lr > 0:
            raise ValueError(f"lr: got {lr}, wanted a positive learning rate")
        self._particles = None if particles is None else whole_number("particles", particles, 1)
        self._batch_size = None if batch_size is None else whole_number("batch_size", batch_size, 1)
        self.model, self.guide = with_guide(model, guide)
        self.plan: Plan | None = None
        self.losses: list[float] = []
        self._user_model, self._seed = model, whole_number("seed", seed, 0)
        self._racing, self._overrides = not isinstance(plan, Plan | str), None if isinstance(plan, str) else plan
        self._progress, self._force = progress, force
        self._raced, self._rate = 0.0, 1.0  # microseconds of races; what the learning rate has fallen to
        self._device = choose_device(device)
        self._optim = optimiser(optim, lr)
        self._compiled = Captures(scalars((model, self.guide)), place(model)) if compile else None
        self._ready: Prepared | None = None

    @property
    def _chosen(self) -> Plan:
        assert self.plan is not None
        return self.plan

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The parameters as they are now, constrained and detached; empty before the first step."""
        if self._ready is None:
            return {}
        with entered(self._ready.state):
            return constrained()

    def prepare(self, *data: Any) -> Plan:
        """Meet the data: make the parameters, check the pair, choose the estimators. The first step does so too."""
        if self._ready is None:
            double = works_in_double(find_modules((self.model, self.guide, data)))
            try:
                self._meet(data, torch.float64 if double else torch.float32)
            except InDouble:
                self._meet(data, torch.float64)
        return self._chosen

    def race(self, *data: Any) -> Plan:
        """Choose the estimators anew by measured variance times work at the parameters as they are (see `race`)."""
        pair, ready = self._begin(data)
        with entered(ready.state):
            self._race(self._steps.batch(pair), SECOND)
        return self._chosen

    def step(self, *data: Any) -> float:
        """One update of the parameters. The estimate of -ELBO before it, nats; if not finite, nothing was updated."""
        pair, ready = self._begin(data)
        with entered(ready.state):
            return self._advance(pair).losses[0]

    def run(self, *data: Any, steps: int | None = None) -> Fit:
        """Go on from where the parameters are, until converged or for so many steps; see `credo.fit`."""
        steps, new = None if steps is None else whole_number("steps", steps, 0), self.plan is not None
        pair, ready = self._begin(data)
        warmup = ready.warmup if steps is None else min(ready.warmup, steps // 4)
        with entered(ready.state):
            if new:  # data that nothing has looked at yet
                check(self.model, self.guide, pair.data, argument_names(self._user_model, len(pair.data)))
            self._set_rate(1.0)
            racing = steps is None or steps >= START

            def advance(most: int) -> Block:
                if racing and not self.losses:
                    self._race(self._steps.batch(pair), SECOND)
                return self._advance(pair, most, 1 if steps is None or steps >= LONG else EAGER, warmup)

            try:
                average, stopped = loop(
                    advance,
                    gain=lambda new, old: self._gain(pair, ready, new, old),
                    look=lambda rate: self._look(pair, ready, rate, racing),
                    steps=steps,
                    warmup=max(0, warmup - len(self.losses)),
                    longest=LONGEST if sum(p.numel() for p in unconstrained().values()) > MANY else math.inf,
                    progress=self._progress,
                )
            except NotFinite as error:
                raise Diverged(str(error), self._fit(pair, error.average, str(error), data)) from None
            fit = self._fit(pair, average, stopped, data)
            if steps is None:
                warn_of_jumps(self._steps.batch(pair), fit.plan, self._steps.vectorised)
            return fit

    def gradients(self, *data: Any) -> dict[str, torch.Tensor]:
        """{parameter: one draw of the gradient of -ELBO in unconstrained space, in nats}; no parameter is updated."""
        pair, ready = self._begin(data)
        with entered(ready.state):
            return gradients(lambda: self._steps.loss(self._steps.batch(pair), self._chosen)[1])

    def evaluate_loss(self, *data: Any) -> float:
        """An estimate of -ELBO in nats; no parameter is updated."""
        pair, ready = self._begin(data)
        with entered(ready.state), torch.no_grad():
            return self._steps.loss(self._steps.batch(pair), self._chosen)[0]

    def _begin(self, data: tuple) -> tuple[Pair, Prepared]:
        """The pair on the data as tensors, and what the run knows."""
        self.prepare(*data)
        assert self._ready is not None
        refuse_unknown(self._ready.state, data)
        values = tensors(self._user_model, data, self._ready.dtype, self._device)
        return Pair(self.model, self.guide, values, self._ready.summed), self._ready

    def _meet(self, data: tuple, dtype: torch.dtype) -> None:
        self._ready = prepare(
            self.model,
            self.guide,
            self._user_model,
            data,
            seed=self._seed,
            device=self._device,
            dtype=dtype,
            overrides=self._overrides,
            force=self._force,
            particles=self._particles,
            batch_size=self._batch_size,
        )
        self.plan, ready = self._ready.plan, self._ready
        with entered(ready.state):
            self._steps = Steps(
                optimiser=self._optim(unconstrained().values()),
                compiled=self._compiled,
                state=ready.state,
                particles=ready.particles,
                asked=self._particles,
                vectorised=ready.vectorised,
                batches=None if ready.rows is None else Shuffled(ready.rows),
            )

    def _advance(self, pair: Pair, most: int = 1, patience: int = EAGER, warmup: int = 0) -> Block:
        block = self._steps.take(pair, self._chosen, most, patience, warmup)
        self.losses += [loss for loss in block.losses if math.isfinite(loss)]
        words = "eager: compile=False" if self._compiled is None else self._compiled.words
        if words != self._chosen.compiled:
            self.plan = self._chosen._replace(compiled=words)
        return block

    def _gain(self, pair: Pair, ready: Prepared, new: torch.Tensor, old: torch.Tensor) -> Gain:
        seed = self._seed * 1000 + len(self.losses)
        return elbo_gain(
            pair, ready.rows, self._chosen, self._steps.vectorised, new, old, seed=seed, latents=ready.latents
        )

    def _look(self, pair: Pair, ready: Prepared, rate: float, racing: bool) -> None:
        if racing:
            falls = rate < self._rate
            share = SHARE * len(self.losses) * (self._chosen.microseconds or 0.0) - self._raced
            self._race(self._steps.batch(pair), share, AT_A_FALL * falls)
        self._set_rate(rate)

    def _race(self, pair: Pair, microseconds: float, least: int = 0) -> None:
        if not self._racing:
            return
        before = self._chosen
        self.plan = self._steps.batched(
            lambda particles, together: race(pair, before, particles, together, microseconds, self._seed, least)
        )
        if self.losses and self.plan is not before:
            self._raced += microseconds

    def _set_rate(self, rate: float) -> None:
        for group in self._steps.optimiser.param_groups:
            group["lr"] *= rate / self._rate
        self._rate = rate

    def _fit(self, pair: Pair, average: torch.Tensor | None, stopped: str, data: tuple) -> Fit:
        if average is not None:
            place_parameters(average, unconstrained().values())
        columns = column_names(self._user_model, data)
        return finished(self._user_model, pair, self.losses, self._chosen, stopped, self._seed, columns)
