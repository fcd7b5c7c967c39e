"""The contenders of speed.py, by their names in the tables: each is a function (workload, lr) -> Contender."""

import functools
import importlib.util
import os
from collections.abc import Callable

import _speed_pyro
import _speed_torch
from _speed_workloads import Contender, Workload

Maker = Callable[[Workload, float], Contender]
VALIDATED, PYRO, JIT = "Pyro, validated", "Pyro", "Pyro, jit"
TORCH, COMPILED = "torch", "torch.compile"
UPDATE, SCAN = "NumPyro update", "NumPyro scan"
CREDO, ONE_A_CALL = "credo", "credo, step"


def makers(knobs: tuple[dict[str, bool], ...] = _speed_torch.KNOBS) -> dict[str, Maker]:
    """All contenders that can run here. knobs: the settings that compiled torch may choose from."""
    found: dict[str, Maker] = {
        VALIDATED: _speed_pyro.by_pyro(validated=True),
        PYRO: _speed_pyro.by_pyro(validated=False),
        JIT: _speed_pyro.by_pyro(validated=False, jit=True),
        TORCH: _speed_torch.eager,
        COMPILED: functools.partial(_speed_torch.compiled, knobs=knobs),
    }
    if not missing():
        one_thread()
        import _speed_numpyro

        found |= {UPDATE: _speed_numpyro.update, SCAN: _speed_numpyro.scan}
    return found | {CREDO: _speed_pyro.by_credo(), ONE_A_CALL: _speed_pyro.by_credo(one_a_call=True)}


def missing() -> list[str]:
    """Which of jax and numpyro are not installed."""
    return [name for name in ("jax", "numpyro") if importlib.util.find_spec(name) is None]


def one_thread() -> None:
    """Restricts JAX to one core; JAX reads the setting when it is imported. (Its dispatch keeps its own thread.)"""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["PJRT_NPROC"] = "1"
