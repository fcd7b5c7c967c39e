"""The one runner: stochastic variational inference for any Pyro model and guide.

    minimise over the parameters of q:   -ELBO = E_q[log q(z) - log p(data, z)]     nats, for the whole data set

A run owns its state (`state`), is prepared (`prepare`), and takes steps (`steps`) until they end (`endings`).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from ..capture.captures import captures_of
from ..capture.same_form import Call
from ..inputs.call import by_name
from ..pair.autoguide import with_guide
from ..pair.pair import Program
from ..planning.plan import Plan
from ..preflight.stream import Stream
from ..runtime.interrupts import interruptible
from ..runtime.parameters import constrained
from ..runtime.state import entered
from ..runtime.workers import is_first
from ..stepping.begin import Begun
from ..stepping.kept_steps import keep
from ..stepping.prepare import Prepared
from ..stepping.settings import checked
from ..stepping.step_inputs import on_batch
from ..stepping.steps import Steps
from ..stepping.together import raced
from ..updates.optimiser import LR, is_torchs, optimiser
from ..updates.schedule import Rate
from .callback import EVERY, handed_out
from .caller import warning_caller, what_to_lower
from .held_out import PATIENCE
from .looks import gradients_of, loss_of
from .pyro_svi import PyroSVI
from .races import Races
from .result import Fit
from .running import OPTIONS, begun_on, fit_now, put_state_of, run_of, state_of, steps_of, without_steps


class SVI:
    """The runner for a loop of one's own: stochastic variational inference, step by step.

        minimise over the parameters of q:   -ELBO = E_q[log q(z) - log p(data, z)]     nats, for the whole data set

    model, guide, lr, clip, particles, batch_size, plan, force, seed, device, compile, precision, progress, kl_warmup,
        shard: as for `credo.fit`; with kl_warmup=None a loop of one's own begins with the whole objective.
    optim, loss: None; or "natural" or an optimiser of torch's by its class, as for `credo.fit`; or those of a Pyro
        program: with a `pyro.optim` optimiser the runner is `pyro.infer.SVI` itself, so that the program runs after
        changing one import. It is an instance of both, and takes the arguments of `pyro.infer.SVI` alone; `loss`:
        Trace_ELBO.
    losses: -ELBO at each step so far, nats. plan: the `Plan`, None before the first data.
    Its methods take the model's arguments, data and named ones, as `credo.fit` does.
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
        lr: Rate = LR,
        clip: float | None = None,
        particles: int | None = None,
        batch_size: int | None = None,
        plan: Mapping[str, str] | Plan | str | None = None,
        force: bool = False,
        seed: int = 0,
        device: str | torch.device | None = None,
        compile: bool = True,
        precision: str | None = None,
        progress: bool = True,
        kl_warmup: int | tuple[int, int] | None = None,
        shard: str = "rows",
    ) -> None:
        if loss is not None:
            raise ValueError("loss: got a loss without optim; pass both, as to pyro.infer.SVI, or neither")
        chosen = (particles, batch_size, plan, force, seed, device, progress, compile, clip, optim)
        self._settings = checked(model, lr, *chosen, precision, kl_warmup, shard)
        self.model, self.guide = with_guide(model, guide)
        self.plan: Plan | None = None
        self.losses: list[float] = []
        self._races = Races(self._settings.races, self._settings.seed)
        self._optim = optimiser(optim, self._settings.schedule or lr, self._settings.clip)
        self._captures = captures_of(model, self.guide) if compile else None
        self._begun: Begun | None = None
        self._looked: Begun | None = None  # what the choice of a method found out about the data of the next call
        self._prepared: Prepared | None = None
        self._steps: Steps  # of the run, once it is prepared
        self._warnings: list[str] = []
        self._stream = Stream()
        self._last: Call | None = None  # the data of the last call
        self._checked: list[tuple[Any, int]] = []  # the data that were checked last, each with its version
        self._start: Fit | None = None  # whose parameters the run starts from
        self._waiting: Mapping[str, Any] | None = None  # a state, for when the parameters are there
        self._handed_out: list | None = None  # within a callback: parameters, with the versions of their values

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
        if self._handed_out is not None:
            return handed_out(self._handed_out)
        with entered(self._prepared.state):
            return constrained()

    def prepare(self, *data: Any, **named: Any) -> Plan:
        """Creates the parameters, checks the pair on its data, and chooses estimators. The first step does so too."""
        self._last = Call(data, named, None)
        with self._called():
            if self._prepared is None:
                self._begin(self._all(data, named))
            return self._current_plan

    def race(self, *data: Any, **named: Any) -> Plan:
        """Chooses the estimators anew: legal plans compete at the present parameters on variance times work."""
        with self._called():
            return self._race(self._all(data, named))

    def step(self, *data: Any, rows: int | None = None, **named: Any) -> float:
        """One update of the parameters. Returns the estimate of -ELBO before it, nats; if not finite, no update.

        rows: of the whole data set, if the data is a batch of it whose plate has the size of the batch.
        """
        call = self._last = Call(data, named, rows)
        with interruptible(raises=True):
            if self._prepared is not None and self._steps.take_again(call, self.losses):
                return self.losses[-1]
            with self._called():
                pair, prepared, given = self._begin(self._all(data, named))
                with entered(prepared.state):
                    (loss,) = self._take_steps(self._stream.next(pair, rows, given.names, self._warnings)).losses
                if self._stream.is_settled:
                    keep(self._steps, call, given, prepared.gaps)
                return loss

    def run(
        self,
        *data: Any,
        steps: int | None = None,
        callback: Callable[["SVI", int, float], Any] | None = None,
        callback_every: int = EVERY,
        validation: Any = None,
        patience: int = PATIENCE,
        **named: Any,
    ) -> Fit:
        """Goes on from the present parameters until converged, or for so many steps; options: as for `credo.fit`."""
        found: list[Fit] = []
        self._last = Call(data, named, None)
        looks = {"callback": callback, "callback_every": callback_every, "validation": validation, "patience": patience}
        with interruptible() as ctrl_c, self._called(found):
            found.append(self._run(self._all(data, named), steps, ctrl_c, **looks))
        return found[0]

    def fit(self, *data: Any, **named: Any) -> Fit:
        """The `Fit` of the present parameters, without another step: after a loop of one's own.

        data: what the fit is of; none given: the data of the last call, which in a loop over batches is one batch.
        """
        found: list[Fit] = []
        with self._called(found, trains=False):
            found.append(fit_now(self, data, named))
        return found[0]

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on: parameters, networks, optimiser, generators, batches, plan, losses.

        A dictionary of dictionaries, lists, numbers, text and copied tensors, for `torch.save` and
        `torch.load(path, weights_only=True)`. Raises ValueError before the first data.
        """
        return state_of(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state_dict` of a runner of the same model, guide, data and options, as that would have.

        Before the first step the state waits until the data come. Raises ValueError naming what does not fit.
        """
        put_state_of(self, state)

    def gradients(self, *data: Any, **named: Any) -> dict[str, torch.Tensor]:
        """{parameter: one draw of the gradient of -ELBO in unconstrained space, in nats}; no parameter is updated.

        data: if none is given, those of the last call that trained or prepared the runner; so for `evaluate_loss`.
        """
        with self._called(trains=False):
            return gradients_of(self, data, named)

    def evaluate_loss(self, *data: Any, **named: Any) -> float:
        """An estimate of -ELBO in nats; no parameter is updated."""
        with self._called(trains=False):
            return loss_of(self, data, named)

    def _called(self, found: Sequence[Fit] = (), trains: bool = True) -> AbstractContextManager[None]:
        """Around the body of each public call. found: the result of the call, if it returns one."""
        if trains and self._handed_out is not None:
            raise RuntimeError("callback: it would train the run that it sees; return True to end the run, then go on")
        particles = None if self._prepared is None else self._prepared.particles
        lower = lambda: what_to_lower(self._settings, particles)  # noqa: E731
        return warning_caller(self._warnings, found, lower, is_first(self._settings.workers))

    @property
    def _current_plan(self) -> Plan:
        assert self.plan is not None
        return self.plan

    def _all(self, data: tuple, named: dict[str, Any]) -> tuple[Any, ...]:
        """The data, with the arguments of the model that were given by name at their places."""
        return by_name(self._settings.model, data, named, OPTIONS)

    # Functions of the runner, see there.
    _begin, _take_steps, _run, _without_steps = begun_on, steps_of, run_of, without_steps

    def _race(self, data: tuple) -> Plan:
        """`race`, whose caller raises the warnings collected."""
        pair, prepared, _ = self._begin(data)
        with entered(prepared.state), on_batch(self._steps, pair) as part:
            now = self._current_plan
            self.plan = raced(self._steps, now, lambda: self._races.race(self._steps, part, now))
        return self._current_plan


class _SVIOfPyro(PyroSVI, SVI):
    """What `SVI` makes of a Pyro optimiser: Pyro's runner, an instance of both classes."""
