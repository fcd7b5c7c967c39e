"""The public calls `credo.fit` and `credo.plan`: a fit by the method that suits the model, and the plan of SVI."""

import dataclasses
import functools
import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..inputs.call import by_name
from ..inputs.datasets import batch_size_of
from ..pair.pair import Program
from ..planning.plan import Plan
from ..runtime.interrupts import interruptible
from ..runtime.workers import everywhere, gathered, workers
from ..stepping.settings import same_on_all
from ..storage.kept import kept_of
from ..updates.optimiser import LR, is_torchs
from ..updates.schedule import Rate
from ..variational.callback import EVERY
from ..variational.caller import warning_caller
from ..variational.going_on import refuse_no_fit
from ..variational.held_out import PATIENCE, checked_validation, parted
from ..variational.of_job import seen_by_first
from ..variational.result import STEPPED, Fit
from ..variational.svi import SVI
from .check import with_verdict
from .method import by_steps, without_svi
from .seeds import best_of, seeds_of


def fit(
    model: Program,
    guide: Program | str | None,
    *data: Any,
    steps: int | None = None,
    lr: Rate = LR,
    clip: float | None = None,
    optim: Callable[..., torch.optim.Optimizer] | str | None = None,
    particles: int | None = None,
    batch_size: int | None = None,
    plan: Mapping[str, str] | Plan | str | None = None,
    force: bool = False,
    seed: int = 0,
    seeds: int | Sequence[int] | None = None,
    device: str | torch.device | None = None,
    compile: bool = True,
    precision: str | None = None,
    progress: bool = True,
    callback: Callable[[SVI, int, float], Any] | None = None,
    callback_every: int = EVERY,
    validation: Any = None,
    patience: int = PATIENCE,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int | None = None,
    start: Fit | None = None,
    kl_warmup: int | tuple[int, int] | None = None,
    shard: str = "rows",
    **named: Any,
) -> Fit:
    """The guide q that minimises -ELBO = E_q[log q(z) - log p(data, z)], in nats for the whole data set.

    model, guide: functions of the data with the same latent sites. guide=None: what suits the model, which `fit.method`
        says and `fit.why` explains: the posterior in closed form (`fit.exact`); else one normal of all latents in
        unconstrained space, finite latents summed out; mean field by SVI for networks, models that train parameters,
        and where one of steps, lr, clip, optim, particles, batch_size, plan, precision, callback and validation is
        given. A word: "mean_field", a normal for each latent; "amortised", the same with a network for the latents of
        rows; "full_rank" and "low_rank", one normal of all; "laplace", the normal at the mode; "map" and "mle", point
        estimates with and without the prior. Normals are found without steps, by Newton's method, natural gradients or
        L-BFGS, as those of Pyro's AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal, AutoLowRankMultivariateNormal
        and AutoLaplaceApproximation are; by SVI where one of these options is given or where networks need it.
    data: tensors, NumPy arrays, lists, pandas Series, with a row for each observation where the model has a plate over
        rows. One DataFrame alone is matched to the model's arguments by column name; a DataLoader or Dataset is its
        tensors, the `pathlib.Path` of a CSV or Parquet file its table; with `batch_size`, more than 128 MB of them or
        of np.memmap are read by windows. Text and categories become codes, int64; `fit.codes` keeps their labels.
        named: arguments of the model by name, e.g. y=y.
    steps: the number of steps; None runs until converged, at most 50,000 steps. Either way the parameters of the fit
        are the average of the last iterates.
    lr: the learning rate in unconstrained space: a number, a function of the step (0 for the first), a scheduler of
        torch's, functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=1000), or {pattern: rate} by the
        names of parameters, {"0.*": 0.001}. What has no rate of its own, as schedulers, starts at `optim`'s or 0.02.
    clip: the largest norm of the gradient of all parameters as one vector, in nats, to which larger ones are scaled.
    optim: an optimiser of torch's by its class, e.g. torch.optim.AdamW, or a functools.partial of it with settings; it
        is called with the parameters and `lr`. None: Adam with betas (0.9, 0.99). "natural": natural gradients for
        independent normals with one parameter for loc, one for scale; Adam for the rest (`fit.plan.updates`).
    particles: draws of the guide in each step; None: up to 32, as many as cost little more work than one.
    batch_size: rows of the data in each step, whose terms are scaled to the whole data set; None: all rows.
    plan: overrides of the estimators, e.g. {site: "score"}; or the plan of an earlier fit, which is kept; or "fast",
        which takes the first legal estimator without measurements. None: legal estimators compete on variance times
        work, before the first step and at times during the run. force: a biased override warns instead of raising.
    seed: of all randomness in the run. seeds: a number of fits, from `seed` and the seeds that follow it, or a list of
        seeds: returns the fit with the largest ELBO, and `fit.seeds` compares the others with it, a row for each seed.
        Fits that take seconds run in processes of their own, on Linux without an accelerator and without a callback.
    device: where the run computes; None: on the accelerator (CUDA) if the data are there or a step has enough
        arithmetic for it (counted, and said in the plan), else on the CPU.
    compile: records the step once, replays it, and compiles it in the background of a long run; `fit.plan.compiled`
        says how steps were taken. False: every step runs the Python of the pair. progress: shows a progress bar.
    precision: "bf16" computes the products of networks in bfloat16, which GPUs do faster; sums, densities, KL,
        parameters and all that is asked of the fit stay in float32. None: as the data are.
    callback: callback(svi, step, loss) after every `callback_every` steps and the last; True ends the run. It may read
        `svi.params`, `svi.losses` and `svi.plan`; a compiled run costs no more between its calls.
    validation: held-out data, (x_val, y_val), or a share of the rows to hold out, drawn with `seed`. Every
        `callback_every` steps their log predictive density is measured; after `patience` looks without a gain the run
        ends. The parameters are those under which they were likeliest, which `fit.stopped` says.
    checkpoint: a file from which the same call goes on exactly where the run was killed, interrupted by Ctrl-C, or had
        ended; with more `steps` it goes on from the end. every: steps from one writing to the next; None: ten seconds,
        or more, so that writing costs less than 1 %. Fits without steps write none: the same call finds them again.
    start: a fit of the same guide, from whose parameters the run starts, on these data or others of the same shapes.
    kl_warmup: the first steps, over which the weight of log q - log p(z) rises from nearly 0 to 1; of a pair of steps,
        it is 0 until the first, 1 from the second. None: 500 or a quarter of `steps` if latents outnumber the
        observations (weights of a network), else 0.
    shard: what processes that `torchrun` starts share. "rows": each takes some rows of each batch (of all rows without
        batch_size); "particles": all rows, and some of the draws. Each gets the same data; gradients are averaged.

    With more than 150 parameters the learning rate falls after 1,000 steps, or after as many as fit into 4 seconds of
    counted work if steps are cheap; after twice as many while -ELBO still falls beyond its error. A run that still
    gained then is not converged and says how many nats per 1,000 steps it gained.
    A step without a finite loss and gradient is skipped, and a warning says how many were. Ctrl-C returns the fit so
    far, also before the first step.
    Raises ValueError before the first step for data or a guide that does not match the model; `Diverged`, which names
    the site and whose `.fit` holds the result so far, if 25 steps in a row or 40 % of all are bad. Other errors of
    the program during a step have the `.fit` so far too.
    Source: Jordan, Ghahramani, Jaakkola and Saul 1999, eq. 34; gradients as `fit.plan` names them.

    >>> import credo, torch
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> fit = credo.fit(pair.model, pair.guide, flips, steps=500, seed=1, compile=False)
    >>> abs(fit.sample(4000)["p"].mean().item() - 5 / 8) < 0.03  # the posterior is Beta(5, 3)
    True
    """
    data = by_name(model, data, named, OPTIONS)
    if optim is not None and not is_torchs(optim):
        raise ValueError(
            f"optim: got {getattr(optim, '__name__', type(optim).__name__)}, which is none of torch's; pass a class "
            f"like torch.optim.Adam and lr=..., or give Pyro's optimisers to credo.SVI(model, guide, optim, loss)"
        )
    batch_size = batch_size_of(data) if batch_size is None else batch_size
    options: dict[str, Any] = {
        **{"lr": lr, "clip": clip, "particles": particles, "batch_size": batch_size, "plan": plan, "force": force},
        **{"device": device, "compile": compile, "precision": precision, "progress": progress},
        **({} if kl_warmup is None else {"kl_warmup": kl_warmup}),  # absent where a file of before has none
        **({} if shard == "rows" else {"shard": shard}),
    }
    checked_validation(validation, patience)
    data, held = parted(model, data, validation, seed, batch_size)
    watching: dict[str, Any] = {
        "callback": callback,
        "callback_every": callback_every,
        "validation": held,
        "patience": patience,
    }
    looks = None if held is None else [held, patience, callback_every]
    asked = {"seed": seed, "seeds": seeds, "optim": optim, "validation": looks, **options}
    kept = kept_of(checkpoint, every, asked)
    if start is not None:
        refuse_no_fit("start", start)
    also: dict[str, Any] = {"steps": steps, "every": every, "checkpoint": kept is not None}
    also |= {"callback": callback is not None, "start": None if start is None else list(start.params.values())}
    if seeds is not None:
        if workers(shard) is not None:  # else a rank with more seeds than others would wait for them
            same_on_all(SVI(model, guide, optim, seed=seed, **options), data, {**asked, **also})
        alone = functools.partial(
            fit, model, guide, *data, steps=steps, optim=optim, start=start, **options, **watching
        )
        best, warned = list[Fit](), list[str]()
        with warning_caller(warned, best):
            apart = callback is None and workers(shard) is None  # a process of its own would call, or join, in vain
            how = {"apart": apart, "prior": guide != "mle"}
            best.append(best_of(alone, seeds_of(seeds, seed), warned, **how))
        return best[0]
    given = (steps, optim, clip, particles, batch_size, plan, precision, callback, kl_warmup, held)
    plain = all(option is None for option in given) and lr == LR and (start is None or start.method not in STEPPED)
    begun = time.process_time()
    with interruptible() as ctrl_c:
        runner = SVI(model, guide, optim, seed=seed, **options)
        runner._start = start
        found: list[Fit] = []
        with runner._called(found):
            same_on_all(runner, data, {**asked, **also})
            why = "options of SVI were given"
            if plain:
                job = runner._settings.workers
                done, why = everywhere(job, lambda: without_svi(runner, guide, data, ctrl_c))
                found += done if all(gathered(job, bool(done))) else []
            if not found:
                found.append(runner._run(data, steps, ctrl_c, kept=kept, **watching))
                found[0] = by_steps(found[0], guide, why)
            spent = time.process_time() - begun + (0.0 if kept is None else kept.spent)
            presses, windows = ctrl_c.presses, None if runner._prepared is None else runner._prepared.streamed
            source = None if windows is None else windows.source
            found[0] = seen_by_first(found[0], runner._settings.workers, lambda fit: with_verdict(fit, spent, source))
            if ctrl_c.presses > presses:
                found[0] = dataclasses.replace(found[0], stopped=f"{found[0].stopped}; interrupted while looked at")
        return found[0]


def plan(
    model: Callable[..., Any],
    guide: Callable[..., Any] | str | None,
    *data: Any,
    plan: Mapping[str, str] | Plan | str | None = None,
    force: bool = False,
    particles: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    **named: Any,
) -> Plan:
    """The gradient estimator of each latent site, chosen by least variance times work, without training.

    The plan is a table: site, distribution, plates, estimator, term, baseline, reason, what was ruled out and why,
    and the variance of the gradient in unconstrained space (nats squared). Legal plans compete at the parameters that
    a run starts from.
    model, guide, data, named, force, particles, seed, device: as for `credo.fit`.
    plan: overrides, e.g. {"z": "score"}; "fast" takes the first legal estimator without measurements.
    Raises ValueError as `credo.fit` does, for data or a guide that does not match the model.
    Source: Glynn and Whitt 1992, for variance times work.

    >>> import credo, torch
    >>> pair, flips = credo.load("coin_toss"), torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> credo.plan(pair.model, pair.guide, flips).estimator("p")
    'pathwise'
    """
    runner = SVI(model, guide, plan=plan, force=force, particles=particles, seed=seed, device=device, progress=False)
    with runner._called():
        return runner._race(by_name(model, data, named, OPTIONS))


# What a misspelt option of the two calls may have meant.
OPTIONS = (*dict.fromkeys((*inspect.getfullargspec(fit).kwonlyargs, *inspect.getfullargspec(plan).kwonlyargs)), "guide")
