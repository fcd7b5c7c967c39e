"""The calls `credo.fit` and `credo.plan`."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..pair.pair import Program
from ..planning.plan import Plan
from ..variational.result import Fit
from ..variational.svi import LR, SVI


def fit(
    model: Program,
    guide: Program | str | None,
    *data: Any,
    steps: int | None = None,
    lr: float = LR,
    optim: Callable[..., torch.optim.Optimizer] | None = None,
    particles: int | None = None,
    batch_size: int | None = None,
    plan: Mapping[str, str] | Plan | str | None = None,
    force: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
    compile: bool = True,
    progress: bool = True,
) -> Fit:
    """The guide q that minimises -ELBO = E_q[log q(z) - log p(data, z)], nats (Jordan et al. 1999, eq. 34).

    model, guide: functions of the data with the same latent sites. guide=None: a mean-field guide is made; "map" and
        "mle": point estimates with and without the prior.
    data: tensors, NumPy arrays, pandas Series; one DataFrame alone is matched to the model's arguments by column name.
    steps: None runs until converged (at most 50,000 steps). A number runs that many. Both return the average of the
        last iterates.
    lr: the learning rate in unconstrained space.
    optim: an optimiser of torch's by its class, e.g. torch.optim.AdamW, or a functools.partial of it with settings; it
        is called with the parameters and `lr`. None: Adam with a short memory.
    particles: draws of the guide in each step; None: up to 32, as many as come at little more work than one (see
        `race.how_many`).
    batch_size: rows of the data in each step, scaled to the whole (see `minibatch`); None: all of them.
    plan: overrides of the estimators, e.g. {site: "score"}; the plan of an earlier fit, which is then kept to; or
        "fast", which measures nothing and takes the first legal estimator. None: legal estimators compete before the
        first step, and now and then, on measured variance times work (see `race`). force: an override that makes the
        gradient biased is warned of, not refused.
    seed: all randomness of the run. device: None is CUDA if there is one, else the CPU.
    compile: capture the step once and replay it, in a long run as machine code that is made in the background (see
        `compiled`); `fit.plan.compiled` says what came of it. False: every step runs the pair's Python.

    Where latents outnumber the observations (weights of a network), the weight of log q - log p(z) rises to 1 over the
    first 500 steps; with more than 150 parameters the learning rate falls after 1,000 steps at the latest.

    Raises ValueError before the first step for data that cannot be learnt from and for a guide that does not match its
    model; `Diverged`, with what was learnt until then in `.fit`, if the loss leaves the finite numbers. Ctrl-C returns
    the fit so far.
    """
    own: dict[str, Any] = {"lr": lr, "optim": optim, "particles": particles, "batch_size": batch_size}
    own |= {"plan": plan, "force": force, "seed": seed, "device": device, "compile": compile, "progress": progress}
    return SVI(model, guide, **own).run(*data, steps=steps)


def plan(
    model: Callable[..., Any],
    guide: Callable[..., Any] | str | None,
    *data: Any,
    plan: Mapping[str, str] | Plan | str | None = None,
    force: bool = False,
    particles: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> Plan:
    """The table of site, distribution, plates, estimator, term, baseline, reason, what was ruled out, and the variance
    of the gradient, without training: legal plans compete at the parameters that a run would start from (see `race`).

    model, guide, data: as for `credo.fit`. plan: overrides, e.g. {"z": "score"}; "fast" measures nothing.
    force: as for `credo.fit`.
    Raises ValueError as `credo.fit` does: for bad data, and for a guide that does not match its model.
    """
    runner = SVI(model, guide, plan=plan, force=force, particles=particles, seed=seed, device=device, progress=False)
    return runner.race(*data)
