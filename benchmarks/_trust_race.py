"""CPU seconds until means are within .05 sd and sds within 5 % of the truth: credo beside NumPyro's Adam.

NumPyro fits its AutoMultivariateNormal with Adam at three constant learning rates and at one that falls, each in a
child process of its own (`_trust_numpyro.py`); the fastest of them counts, with and without the time of its compiler.
If credo's normal is farther off than .05 sd and 5 %, as where the posterior is no normal, NumPyro has to reach credo's
error instead. credo compiles nothing here, and its seconds include what it finds out about its own answer.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _trust_case import Error, Posterior, draws_of, judged, worst
from _trust_conjugate import correlated
from _trust_groups import groups_data, groups_decentred
from _trust_regressions import logistic, logistic_data
from _trust_regressions import posteriors as regressions
from _trust_truths import truth

CLOSE = 0.05  # sds of a mean, and relative error of an sd
RATES = ((0.03, 0.03), (0.01, 0.01), (0.003, 0.003), (0.03, 0.0003))  # at the first step, and at the last one
SLACK = 1.05  # on credo's own error, which 20,000 draws measure


class Reached(NamedTuple):
    """What a child says. steps: 0 if it never came so near. error: the last one, of means and of sds."""

    rate: str
    steps: int
    seconds: float
    compiling: float
    error: tuple[float, float]


def race(chosen: Callable[[str], bool], seeds: range, folder: Path, numpyro: str) -> None:
    """Runs and prints them. numpyro: a folder with numpyro and jax, or "" where they are installed."""
    print("| posterior | method | credo, s | error | NumPyro, s | compiled, s | steps | error | times | compiled |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for posterior in contenders():
        if not chosen(posterior.name):
            continue
        try:
            moments = truth(posterior, folder).moments
        except ValueError as error:
            print(f"left out: {error}", flush=True)
            continue
        found = [judged(posterior.model, None, posterior.data, seed, {}, 600) for seed in seeds]
        ours = statistics.median(each.seconds for each in found)
        errors = [worst(draws_of(each, seed), moments) for seed, each in zip(seeds, found, strict=True)]
        error = Error(max(each.mean for each in errors), max(each.sd for each in errors), "")
        wanted = tuple(max(CLOSE, SLACK * each) for each in (error.mean, error.sd))
        theirs = [in_a_child(posterior, moments, wanted, rate, numpyro) for rate in RATES]
        line = [posterior.name, found[0].fit.method, f"{ours:.2f}", f"{error.mean:.3f}, {error.sd:.3f}"]
        print(f"| {' | '.join([*line, *against(theirs, ours)])} |", flush=True)


def contenders() -> list[Posterior]:
    known = {each.name: each for each in regressions()}
    return [
        Posterior("logistic", logistic, logistic_data(1000, 20)),
        correlated(),
        known["Poisson regression"],
        Posterior("85 groups, decentred", groups_decentred, groups_data(85, 8)),
    ]


def against(theirs: list[Reached], ours: float) -> list[str]:
    """The fastest rate that came near, or what the nearest one had when it stopped."""
    there = [each for each in theirs if each.steps]
    best = min(there, key=lambda each: each.seconds) if there else min(theirs, key=lambda each: max(each.error))
    more = "" if there else "> "
    whole = best.seconds + best.compiling
    return [
        f"{more}{best.seconds:.2f}",
        f"{more}{whole:.2f}",
        f"{best.steps:,} at {best.rate}" if there else f"never, at {best.rate}",
        f"{best.error[0]:.3f}, {best.error[1]:.3f}",
        f"{more}{best.seconds / ours:.0f}",
        f"{more}{whole / ours:.0f}",
    ]


def in_a_child(
    posterior: Posterior, moments: Any, wanted: tuple[float, ...], rate: tuple[float, float], numpyro: str
) -> Reached:
    """NumPyro in a process of its own, which imports neither torch nor credo."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.npz"
        arrays = {f"data{i}": value.numpy() for i, value in enumerate(posterior.data)}
        arrays |= {f"mean_{name}": each.mean.numpy() for name, each in moments.items()}
        arrays |= {f"sd_{name}": each.sd.numpy() for name, each in moments.items()}
        np.savez(told, **arrays)
        child = str(Path(__file__).parent / "_trust_numpyro.py")
        command = [sys.executable, child, posterior.name, str(told), *map(str, (*rate, *wanted))]
        settings = {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
            "PJRT_NPROC": "1",
            "CREDO_BENCH_NUMPYRO": numpyro,
        }
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{child} failed; are numpyro and jax installed (credo[bench])?\n{done.stderr[-800:]}")
    return Reached(
        f"{rate[0]}" if rate[0] == rate[1] else f"{rate[0]} to {rate[1]}", **json.loads(done.stdout.splitlines()[-1])
    )
