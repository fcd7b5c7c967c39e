"""Is a short run of credo as cheap as Pyro's? The first evening's programs, 80 and 300 steps, planning and all.

    python benchmarks/short.py [--steps 80 300] [--only mixture topics] [--repeats 3]

Programs in the style of Pyro's examples and tutorials. For each of them: CPU seconds of `credo.fit(model, guide,
data, steps=n)` over those of `pyro.infer.SVI` with Adam at the same rate and the ELBO that the example takes, n steps.
One thread. Each measurement is a process of its own, forked from this one after both sides have run once, so that no
import is counted; what compilers do in the background is counted. The two take turns; the fewest seconds of each count.

Targets: <= 1.0 in the geometric mean over programs and steps, <= 1.5 in each.
"""

import argparse
import atexit
import math
import os
import sys
import warnings
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import pyro
import torch
from _short_finite import FINITE
from _short_networks import NETWORKS
from _short_regressions import REGRESSIONS, Case
from pyro.infer import SVI
from pyro.optim import Adam

import credo

RATE = 0.02
MEAN, EACH = 1.0, 1.5  # targets
PROGRAMS = {make.__name__: make for make in (*REGRESSIONS, *FINITE, *NETWORKS)}


def by_credo(case: Case, steps: int) -> None:
    credo.fit(case.model, case.guide, *case.data, steps=steps, lr=RATE, progress=False)


def by_pyro(case: Case, steps: int) -> None:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    svi = SVI(case.model, case.guide, Adam({"lr": RATE}), case.elbo())
    for _ in range(steps):
        svi.step(*case.data)


def cpu_seconds(run: Callable[[Case, int], None], make: Callable[[], Case], steps: int) -> float:
    """CPU seconds of a run in a process of its own, with those of the processes that it started."""
    sys.stdout.flush()
    if not (child := os.fork()):
        status = 1
        try:
            run(make(), steps)
            atexit._run_exitfuncs()  # ends a compiler in the background and waits for it, which counts its seconds
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{make.__name__}, {steps} steps: {run.__name__} failed")
    return used.ru_utime + used.ru_stime


def ratio(make: Callable[[], Case], steps: int, repeats: int) -> tuple[float, float]:
    """CPU seconds of (credo, Pyro), the fewest of some repeats."""
    taken = [(cpu_seconds(by_credo, make, steps), cpu_seconds(by_pyro, make, steps)) for _ in range(repeats)]
    ours, pyros = zip(*taken, strict=True)
    return min(ours), min(pyros)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[80, 300])
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # a run that is cut short says that it has not converged
    for run in (by_credo, by_pyro):
        for name in ("coin", "mixture"):
            run(PROGRAMS[name](), 210)
    logs = []
    print(f"{'program':24}{'steps':>6}{'credo':>9}{'Pyro':>9}{'ratio':>8}")
    for name in options.only:
        for steps in options.steps:
            ours, pyros = ratio(PROGRAMS[name], steps, options.repeats)
            logs.append(math.log(ours / pyros))
            print(f"{name:24}{steps:6}{ours:8.2f}s{pyros:8.2f}s{ours / pyros:8.2f}", flush=True)
    mean, worst = math.exp(sum(logs) / len(logs)), math.exp(max(logs))
    print(f"geometric mean {mean:.2f} (wanted <= {MEAN}), worst {worst:.2f} (wanted <= {EACH})")


if __name__ == "__main__":
    main()
