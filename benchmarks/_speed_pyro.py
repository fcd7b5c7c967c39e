"""The contenders of speed.py that run the Pyro program: Pyro itself in three ways, and credo.

Pyro: `pyro.infer.SVI` with `pyro.optim.Adam`, validation on (its default) and off, and its Jit ELBOs.
credo: the same estimator and one particle, so that a step does the same arithmetic.
"""

import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.infer
import torch
from _speed_workloads import BETAS, LAST, Contender, Params, Workload

import credo


def by_pyro(validated: bool, jit: bool = False) -> Callable[[Workload, float], Contender]:
    def make(workload: Workload, lr: float) -> Contender:
        model, guide = programs(workload)
        return pyro_svi(model, guide, workload.data, workload.elbo, lr, validated, jit)

    return make


def pyro_svi(
    model: Callable, guide: Callable, data: tuple, elbo: str, lr: float, validated: bool, jit: bool = False
) -> Contender:
    """elbo: the class without its ending, "Trace" for Trace_ELBO. The parameter store is the contender's own."""
    kind = getattr(pyro.infer, f"{'Jit' if jit else ''}{elbo}_ELBO")
    options = {"ignore_jit_warnings": True} if jit else {}
    if elbo == "TraceEnum":
        guide = pyro.infer.config_enumerate(guide, "parallel")
        options["max_plate_nesting"] = 1
    adam = pyro.optim.Adam({"lr": lr, "betas": BETAS})
    svi = pyro.infer.SVI(model, guide, adam, kind(**options))
    with pyro.get_param_store().scope() as state:
        pass

    def steps(n: int) -> list[float]:
        with pyro.get_param_store().scope(state), pyro.validation_enabled(validated), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [svi.step(*data) for _ in range(n)][-LAST:]

    def params() -> dict[str, torch.Tensor]:
        with pyro.get_param_store().scope(state) as store:
            return canonical({name: pyro.param(name) for name in store["params"]})

    return Contender(steps, params)


def by_credo(one_a_call: bool = False, compile: bool = True) -> Callable[[Workload, float], Contender]:
    def make(workload: Workload, lr: float) -> Contender:
        model, guide = programs(workload)
        return credo_svi(model, guide, workload.data, workload.plan, lr, one_a_call, compile)

    return make


def credo_svi(
    model: Callable,
    guide: Callable,
    data: tuple,
    plan: Any,
    lr: float,
    one_a_call: bool = False,
    compile: bool = True,
) -> Contender:
    """The arithmetic of Trace_ELBO: one particle, the estimators of `plan`, log q at the draw and no analytic KL, the
    whole objective from the first step on. credo keeps to a whole Plan: it measures nothing and chooses nothing again.

    one_a_call: by `svi.step`, else by `svi.run`, which leaves the parameters at the mean of its last iterates.
    """
    own = {"particles": 1, "device": "cpu", "progress": False, "compile": compile}
    fixed = credo.SVI(model, guide, plan=plan, **own).prepare(*data).with_term("log q")
    svi = credo.SVI(model, guide, plan=fixed, lr=lr, **own)
    svi.prepare(*data)
    svi._prepared = svi._prepared._replace(warmup=0)  # no warm-up of the KL weight, where latents outnumber the data
    return runner(svi, data, one_a_call, compile)


def by_default(workload: Workload, lr: float) -> Contender:
    """credo with all defaults except the learning rate."""
    model, guide = programs(workload)
    return runner(credo.SVI(model, guide, lr=lr, device="cpu", progress=False), workload.data)


def runner(svi: Any, data: tuple, one_a_call: bool = False, compile: bool = True) -> Contender:
    def steps(n: int) -> list[float]:
        if one_a_call:
            return [svi.step(*data) for _ in range(n)][-LAST:]
        svi.run(*data, steps=n)
        return svi.losses[-min(n, LAST) :]

    def ready() -> bool:
        return not compile or svi.plan.compiled == "captured once, compiled"

    return Contender(steps, lambda: canonical(svi.params), ready)


def programs(workload: Workload) -> tuple[Callable, Callable]:
    """(model, guide) with copies of the parameters, because `pyro.param` trains the tensor that it is given."""
    return workload.pyro({name: value.clone() for name, value in workload.start.items()})


def canonical(params: Params) -> dict[str, torch.Tensor]:
    """Detached, by the names of the workload: Pyro writes decoder$$$0.weight for decoder.0.weight."""
    return {name.replace("$$$", "."): value.detach().clone() for name, value in params.items()}
