"""The one runner: stochastic variational inference for any Pyro model and guide.

    minimise over the parameters of q:   -ELBO = E_q[log q(z) - log p(data, z)]     nats, for the whole data set

A run owns its state (`state`), is prepared (`prepare`), and takes steps (`steps`) until they end (`endings`).
"""

import functools
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from ..capture.cache import UNSAFE
from ..capture.captures import captures_of
from ..capture.same_form import Call
from ..inputs.arguments import Arguments, whole_number
from ..inputs.call import by_name
from ..objective.gradients import gradients
from ..pair.autoguide import with_guide
from ..pair.pair import Pair, Program
from ..planning.plan import Plan
from ..preflight.check import check
from ..preflight.stream import Stream
from ..runtime.parameters import constrained
from ..runtime.state import entered
from .caller import warning_caller, what_to_lower
from .interrupts import CtrlC, interruptible
from .optimiser import is_torchs, optimiser
from .prepare import Begun, Prepared, begin, first_steps, prepare, prepared_arguments
from .pyro_svi import PyroSVI
from .races import Races
from .result import Fit
from .run import NO_STEP, Course, Plans, fit_of, run, unplanned
from .settings import checked
from .steps import EAGER, StepBlock

LR = 0.02  # of Adam, in unconstrained space


class SVI:
    """The runner for a loop of one's own: stochastic variational inference, step by step.

        minimise over the parameters of q:   -ELBO = E_q[log q(z) - log p(data, z)]     nats, for the whole data set

    model, guide, lr, particles, batch_size, plan, force, seed, device, compile, progress: as for `credo.fit`.
    optim, loss: None; or an optimiser of torch's by its class, as for `credo.fit`; or those of a Pyro program: with a
        `pyro.optim` optimiser the runner is `pyro.infer.SVI` itself, so that the program runs after changing one
        import. It is an instance of both, and takes the arguments of `pyro.infer.SVI` alone; `loss`: Trace_ELBO.
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
        self._settings = checked(model, lr, particles, batch_size, plan, force, seed, device, progress, compile)
        self.model, self.guide = with_guide(model, guide)
        self.plan: Plan | None = None
        self.losses: list[float] = []
        self._races = Races(self._settings.races, self._settings.seed)
        self._optim = optimiser(optim, lr)
        self._captures = captures_of(model, self.guide) if compile else None
        self._begun: Begun | None = None
        self._looked: Begun | None = None  # what the choice of a method found out about the data of the next call
        self._prepared: Prepared | None = None
        self._warnings: list[str] = []
        self._stream = Stream()

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

    def prepare(self, *data: Any, **named: Any) -> Plan:
        """Creates the parameters, checks the pair on its data, and chooses estimators. The first step does so too."""
        with self._called():
            if self._prepared is None:
                self._prepare(self._all(data, named))
            return self._current_plan

    def race(self, *data: Any, **named: Any) -> Plan:
        """Chooses the estimators anew: legal plans compete at the present parameters on variance times work."""
        with self._called():
            return self._race(self._all(data, named))

    def step(self, *data: Any, rows: int | None = None, **named: Any) -> float:
        """One update of the parameters. Returns the estimate of -ELBO before it, nats; if not finite, no update.

        rows: of the whole data set, if the data is a batch of it whose plate has the size of the batch.
        """
        call = Call(data, named, rows)
        with interruptible(raises=True):
            if self._prepared is not None and self._steps.take_again(call, self.losses):
                return self.losses[-1]
            with self._called():
                pair, prepared, given = self._begin(self._all(data, named))
                with entered(prepared.state):
                    (loss,) = self._take_steps(self._stream.next(pair, rows, given.names, self._warnings)).losses
                if self._stream.is_settled:
                    self._steps.keep(call, given, prepared.gaps)
                return loss

    def run(self, *data: Any, steps: int | None = None, **named: Any) -> Fit:
        """Goes on from the present parameters until converged, or for so many steps; see `credo.fit`."""
        found: list[Fit] = []
        with interruptible() as ctrl_c, self._called(found):
            found.append(self._run(self._all(data, named), steps, ctrl_c))
        return found[0]

    def gradients(self, *data: Any, **named: Any) -> dict[str, torch.Tensor]:
        """{parameter: one draw of the gradient of -ELBO in unconstrained space, in nats}; no parameter is updated."""
        with self._called():
            pair, prepared, _ = self._begin(self._all(data, named))
            with entered(prepared.state):
                return gradients(lambda: self._steps.loss(self._steps.batch(pair), self._current_plan)[1])

    def evaluate_loss(self, *data: Any, **named: Any) -> float:
        """An estimate of -ELBO in nats; no parameter is updated."""
        with self._called():
            pair, prepared, _ = self._begin(self._all(data, named))
            with entered(prepared.state), torch.no_grad():
                return self._steps.loss(self._steps.batch(pair), self._current_plan)[0]

    def _called(self, found: Sequence[Fit] = ()) -> AbstractContextManager[None]:
        """Around the body of each public call. found: the result of the call, if it returns one."""
        particles = None if self._prepared is None else self._prepared.particles
        return warning_caller(self._warnings, found, lambda: what_to_lower(self._settings, particles))

    @property
    def _current_plan(self) -> Plan:
        assert self.plan is not None
        return self.plan

    def _all(self, data: tuple, named: dict[str, Any]) -> tuple[Any, ...]:
        """The data, with the arguments of the model that were given by name at their places."""
        return by_name(self._settings.model, data, named, ("steps",))

    def _begin(self, data: tuple) -> tuple[Pair, Prepared, Arguments]:
        """(the pair on the data as tensors, what the run knows, the data with its names)."""
        if self._prepared is None:
            given, prepared = self._prepare(data)
        else:
            given, prepared = prepared_arguments(self._prepared, self._settings.model, data), self._prepared
        pair = Pair(self.model, self.guide, given.values, prepared.summed, followers=prepared.followers)
        return pair, prepared, given

    def _prepare(self, data: tuple) -> tuple[Arguments, Prepared]:
        self._begun = None
        self._begun = begun = self._looked or begin(self.model, self.guide, self._settings, data)
        self._looked = None
        self._warnings += begun.warnings
        prepared, given = prepare(begun, self._settings), begun.given
        self._warnings += prepared.plan.biased
        self._steps = first_steps(prepared, self._settings, self._optim, self._captures, self._warnings)
        self._prepared, self.plan, self._begun = prepared, prepared.plan, None
        return given, prepared

    def _take_steps(self, pair: Pair, most: int = 1, patience: int = EAGER, warmup: int = 0) -> StepBlock:
        block = self._steps.take_steps(pair, self._current_plan, most, patience, warmup)
        self.losses += [loss for loss in block.losses if math.isfinite(loss)]
        words = "eager: compile=False" if self._captures is None else self._captures.summary
        if words != self._current_plan.compiled:
            self.plan = self._current_plan._replace(compiled=words)
            self._warnings += [words] * (UNSAFE in words)
        return block

    def _race(self, data: tuple) -> Plan:
        """`race`, whose caller raises the warnings collected."""
        pair, prepared, _ = self._begin(data)
        with entered(prepared.state):
            self.plan = self._races.race(self._steps, self._steps.batch(pair), self._current_plan)
        return self._current_plan

    def _run(self, data: tuple, steps: int | None, ctrl_c: CtrlC) -> Fit:
        """`run`, whose caller raises the warnings collected and counts Ctrl-C."""
        steps, again = None if steps is None else whole_number("steps", steps, 0), self.plan is not None
        try:
            ctrl_c.raises = True
            pair, prepared, given = self._begin(data)
            if prepared.fixed_part is not None:
                raise ValueError(prepared.fixed_part)
            if again:  # this data has not been checked yet
                with entered(prepared.state):
                    check(self.model, self.guide, pair.data, given.names)
        except KeyboardInterrupt:
            return self._without_steps(data)
        finally:
            ctrl_c.raises = False
        with entered(prepared.state):
            return run(self._course(pair, prepared, given), steps, ctrl_c)

    def _course(self, pair: Pair, prepared: Prepared, given: Arguments) -> Course:
        plans = Plans(lambda: self._current_plan, lambda plan: setattr(self, "plan", plan))
        kept = (self._settings, self._steps, self._races, self.losses, self._warnings)
        return Course(pair, given, prepared, *kept, plans, self._take_steps)

    def _without_steps(self, data: tuple) -> Fit:
        """The fit of a run that Ctrl-C ended before its first step: at the parameters as they are."""
        if self._prepared is None:
            begun = self._begun or begin(self.model, self.guide, self._settings, data)
            return unplanned(begun, self._settings, NO_STEP)
        course = self._course(*self._begin(data))
        with entered(course.prepared.state):
            return fit_of(course, None, NO_STEP)


class _SVIOfPyro(PyroSVI, SVI):
    """What `SVI` makes of a Pyro optimiser: Pyro's runner, an instance of both classes."""
