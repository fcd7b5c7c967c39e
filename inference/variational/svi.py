"""The one runner: stochastic variational inference for any Pyro model and guide.

    minimise over the parameters of q:   -ELBO = E_q[log q(z) - log p(data, z)]     nats, for the whole data set

A run owns its parameters and its random state (`runtime.state`), is prepared on its data (`prepare`), takes steps
(`steps`) until they end (`endings`), and returns a `Fit` (`result`).
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch

from ..capture.captures import Captures
from ..capture.outside import definition_line, outside_scalars
from ..objective.gradients import gradients
from ..pair.autoguide import with_guide
from ..pair.batches import Shuffled
from ..pair.pair import Pair, Program
from ..planning.plan import Plan
from ..preflight.check import check
from ..runtime.arguments import Arguments, arguments, whole_number
from ..runtime.parameters import constrained, place_parameters, unconstrained
from ..runtime.state import entered, refuse_unknown
from .caller import warning_caller
from .convergence import Convergence, Gain
from .endings import FixedSteps, UntilConverged
from .gain import Elbo, elbo_gain
from .loop import NotFinite, loop
from .optimiser import is_torchs, optimiser
from .prepare import Prepared, prepare
from .pyro_svi import PyroSVI
from .races import START, Races
from .recheck import jumps
from .result import Diverged, Fit, finished
from .settings import checked
from .steps import EAGER, StepBlock, Steps

LR = 0.02  # of Adam, in unconstrained space
LONG = 200  # steps of a run that is long enough for a capture after its first step
MANY, LONGEST = 150, 1000  # with more parameters than MANY, a stage takes at most LONGEST steps


class SVI:
    """The runner for a loop of one's own: stochastic variational inference, step by step.

        minimise over the parameters of q:   -ELBO = E_q[log q(z) - log p(data, z)]     nats, for the whole data set

    model, guide, lr, particles, batch_size, plan, force, seed, device, compile, progress: as for `credo.fit`.
    optim, loss: None; or an optimiser of torch's by its class, as for `credo.fit`; or those of a Pyro program: with a
        `pyro.optim` optimiser the runner is `pyro.infer.SVI` itself, so that the program runs after changing one
        import. It is an instance of both classes, takes all arguments of `pyro.infer.SVI`, none of credo's, and
        `loss` is Trace_ELBO if left out.
    `.params`, {name: constrained value}; `.losses`, -ELBO at each step so far in nats; `.plan`, None before the data.
    Raises ValueError naming the argument that is out of range.
    Source: Hoffman, Blei, Wang and Paisley 2013; Kingma and Welling 2014, eq. 3.

    >>> import credo, torch
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> svi = credo.SVI(pair.model, pair.guide, seed=1, compile=False)
    >>> losses = [svi.step(flips) for _ in range(100)]
    >>> losses == svi.losses
    True
    >>> svi.run(flips, steps=50).stopped
    'after the 50 steps asked for'
    """

    def __init__(
        self,
        model: Program,
        guide: Program | str | None = None,
        optim: Any = None,
        loss: Any = None,
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
        self._settings = checked(model, lr, particles, batch_size, plan, force, seed, device, progress)
        self.model, self.guide = with_guide(model, guide)
        self.plan: Plan | None = None
        self.losses: list[float] = []
        self._races = Races(self._settings.races, self._settings.seed)
        self._optim = optimiser(optim, lr)
        self._captures = Captures(outside_scalars((model, self.guide)), definition_line(model)) if compile else None
        self._prepared: Prepared | None = None
        self._warnings: list[str] = []

    # wraps: so that inspect.signature(SVI) and help(SVI) show the arguments of __init__
    @functools.wraps(__init__, assigned=())  # type: ignore[misc]  # mypy: no decorated constructors
    def __new__(cls, model: Any = None, guide: Any = None, optim: Any = None, *rest: Any, **options: Any) -> "SVI":
        if optim is None or is_torchs(optim):
            return super().__new__(cls)
        if cls is not SVI:
            raise TypeError(f"optim: {cls.__name__} is a credo.SVI; for Pyro optimisers derive it from pyro.infer.SVI")
        return super().__new__(_SVIOfPyro)

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The present parameters, constrained and detached: {name: value}. Empty before the first step."""
        if self._prepared is None:
            return {}
        with entered(self._prepared.state):
            return constrained()

    def prepare(self, *data: Any) -> Plan:
        """Creates the parameters, checks the pair on its data, and chooses estimators. The first step does so too."""
        with warning_caller(self._warnings):
            if self._prepared is None:
                self._prepare(data)
            return self._current_plan

    def race(self, *data: Any) -> Plan:
        """Chooses the estimators anew: legal plans compete at the present parameters on variance times work."""
        with warning_caller(self._warnings):
            return self._race(data)

    def step(self, *data: Any) -> float:
        """One update of the parameters. Returns the estimate of -ELBO before it, nats; if not finite, no update."""
        with warning_caller(self._warnings):
            pair, prepared, _ = self._begin(data)
            with entered(prepared.state):
                return self._take_steps(pair).losses[0]

    def run(self, *data: Any, steps: int | None = None) -> Fit:
        """Goes on from the present parameters until converged, or for so many steps; see `credo.fit`."""
        with warning_caller(self._warnings):
            return self._run(data, steps)

    def gradients(self, *data: Any) -> dict[str, torch.Tensor]:
        """{parameter: one draw of the gradient of -ELBO in unconstrained space, in nats}; no parameter is updated."""
        with warning_caller(self._warnings):
            pair, prepared, _ = self._begin(data)
            with entered(prepared.state):
                return gradients(lambda: self._steps.loss(self._steps.batch(pair), self._current_plan)[1])

    def evaluate_loss(self, *data: Any) -> float:
        """An estimate of -ELBO in nats; no parameter is updated."""
        with warning_caller(self._warnings):
            pair, prepared, _ = self._begin(data)
            with entered(prepared.state), torch.no_grad():
                return self._steps.loss(self._steps.batch(pair), self._current_plan)[0]

    @property
    def _current_plan(self) -> Plan:
        assert self.plan is not None
        return self.plan

    def _begin(self, data: tuple) -> tuple[Pair, Prepared, Arguments]:
        """(the pair on the data as tensors, what the run knows, the data with its names)."""
        if self._prepared is None:
            given, prepared = self._prepare(data)
        else:
            prepared = self._prepared
            refuse_unknown(prepared.state, data)
            given = arguments(self._settings.model, data, prepared.dtype, self._settings.device)
        return Pair(self.model, self.guide, given.values, prepared.summed), prepared, given

    def _prepare(self, data: tuple) -> tuple[Arguments, Prepared]:
        prepared, given = prepare(self.model, self.guide, self._settings, data)
        self._prepared, self.plan = prepared, prepared.plan
        self._warnings += prepared.plan.biased
        with entered(prepared.state):
            self._steps = Steps(
                optimiser=self._optim(unconstrained().values()),
                captures=self._captures,
                state=prepared.state,
                particles=prepared.particles,
                asked=self._settings.particles,
                vectorised=prepared.vectorised,
                batches=None if prepared.rows is None else Shuffled(prepared.rows),
                warnings=self._warnings,
            )
        return given, prepared

    def _take_steps(self, pair: Pair, most: int = 1, patience: int = EAGER, warmup: int = 0) -> StepBlock:
        block = self._steps.take_steps(pair, self._current_plan, most, patience, warmup)
        self.losses += [loss for loss in block.losses if math.isfinite(loss)]
        words = "eager: compile=False" if self._captures is None else self._captures.summary
        if words != self._current_plan.compiled:
            self.plan = self._current_plan._replace(compiled=words)
        return block

    def _race(self, data: tuple) -> Plan:
        """`race`, whose caller raises the warnings collected."""
        pair, prepared, _ = self._begin(data)
        with entered(prepared.state):
            self.plan = self._races.race(self._steps, self._steps.batch(pair), self._current_plan)
        return self._current_plan

    def _run(self, data: tuple, steps: int | None) -> Fit:
        """`run`, whose caller raises the warnings collected."""
        steps, again = None if steps is None else whole_number("steps", steps, 0), self.plan is not None
        pair, prepared, given = self._begin(data)
        warmup = prepared.warmup if steps is None else min(prepared.warmup, steps // 4)
        racing = steps is None or steps >= START

        def take_steps(most: int) -> StepBlock:
            if racing and not self.losses:
                self.plan = self._races.race(self._steps, self._steps.batch(pair), self._current_plan)
            return self._take_steps(pair, most, 1 if steps is None or steps >= LONG else EAGER, warmup)

        def replan(rate: float) -> None:
            falls = rate < self._steps.rate
            if racing:
                part = self._steps.batch(pair)
                self.plan = self._races.race_on_the_way(self._steps, part, self._current_plan, falls)
            self._steps.set_rate(rate)

        def gain(new: torch.Tensor, old: torch.Tensor) -> Gain:
            elbo = Elbo(pair, self._current_plan, self._steps.vectorised, prepared.rows, prepared.latents)
            return elbo_gain(elbo, new, old, seed=self._settings.seed * 1000 + len(self.losses))

        with entered(prepared.state):
            if again:  # this data has not been checked yet
                check(self.model, self.guide, pair.data, given.names)
            self._steps.set_rate(1.0)
            longest = LONGEST if sum(p.numel() for p in unconstrained().values()) > MANY else math.inf
            converged = UntilConverged(Convergence(gain, longest), replan, max(0, warmup - len(self.losses)))
            ending = converged if steps is None else FixedSteps(steps, replan)
            try:
                average, stopped = loop(take_steps, ending, total=steps, progress=self._settings.progress)
            except NotFinite as error:
                raise Diverged(str(error), self._fit(pair, error.average, str(error), given)) from None
            fit = self._fit(pair, average, stopped, given)
            if steps is None:
                self._warnings += jumps(self._steps.batch(pair), fit.plan, self._steps.vectorised)
            return fit

    def _fit(self, pair: Pair, average: torch.Tensor | None, stopped: str, given: Arguments) -> Fit:
        if average is not None:
            place_parameters(average, unconstrained().values())
        settings = self._settings
        return finished(settings.model, pair, self.losses, self._current_plan, stopped, settings.seed, given.columns)


class _SVIOfPyro(PyroSVI, SVI):
    """What `SVI` makes of a Pyro optimiser: Pyro's runner, an instance of both classes."""
