"""`speed.py cold`: the time that a contender takes with empty caches; imports do not count.

    seconds to the first 1000 steps; seconds until -ELBO <= converged + 1 nat

Each contender runs in a process of its own with empty caches. The converged -ELBO is the mean over the last quarter of
a long run of eager torch by hand with the same learning rate. -ELBO is evaluated after 1000 steps and then every 250;
the clock stops meanwhile. The VAE improves slowly for long: its target is -ELBO by hand after a fixed number of steps.
Two more contenders: credo with all defaults except the learning rate, for the same steps, and until it stops by itself.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import torch
from _speed_contenders import ONE_A_CALL, makers
from _speed_pyro import by_default, canonical, programs
from _speed_torch import KNOBS, eager
from _speed_workloads import Contender, Workload, all_workloads, judged

import credo

CALLED = "credo, default", "credo.fit"  # in steps as the others; and the one call, to its own stop
FIRST, PARTS, NEAR = 1000, 4, 1.0  # steps, evaluations of -ELBO in as many steps, nats
LIMIT, MOST = 300.0, 4  # seconds, and times the steps of the reference, after which a contender is given up


def cold(
    workloads: Mapping[str, Workload], labels: Iterable[str], horizon: int | None = None, first: int = FIRST
) -> pd.DataFrame:
    """A row for each workload and contender. horizon: steps of the reference; None: the workload's own."""
    rows = []
    for name, workload in workloads.items():
        target = converged(workload, horizon or workload.horizon)
        print(f"\n{name}: Adam at {workload.lr:g}, converged at {target:,.2f} nats", flush=True)
        print(f"  {'':<16}{first:>7} steps, s{'near, s':>12}{'after steps':>13}{'nats above':>12}")
        for label in (*(label for label in labels if label != ONE_A_CALL), *CALLED):
            row = alone(name, label, target, (horizon or workload.horizon) * MOST, first)
            rows.append({"workload": name, "contender": label, **row})
            cells = [f"{row[key]:,.2f}" if row.get(key) is not None else "-" for key in ("start", "near", "off")]
            steps = f"{row['steps']:,}" if row.get("steps") else "-"
            print(f"  {label:<16}{cells[0]:>16}{cells[1]:>12}{steps:>13}{cells[2]:>12}  {row.get('failed', '')}")
    return pd.DataFrame(rows)


def converged(workload: Workload, horizon: int) -> float:
    """The mean of -ELBO, nats, at ten points of the last quarter of this many steps of eager torch by hand."""
    contender = eager(workload, workload.lr)
    contender.steps(max(1, horizon * 3 // 4))
    found = []
    for _ in range(10):
        contender.steps(max(1, horizon // 40))
        found.append(judged(workload, contender.params()).loss)
    return statistics.fmean(found)


def alone(name: str, label: str, target: float, most: int, first: int) -> dict:
    """The result of `child` in a process of its own, whose caches are empty folders."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {key: str(Path(folder, key)) for key in ("CREDO_CACHE", "TORCHINDUCTOR_CACHE_DIR")}
        kept = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
        command = [sys.executable, __file__, name, label, str(target), str(most), str(first)]
        try:
            done = subprocess.run(command, env=kept | caches, capture_output=True, text=True, timeout=3 * LIMIT)
        except subprocess.TimeoutExpired:
            return {"failed": f"given up after {3 * LIMIT:.0f} s"}
        if done.returncode:
            return {"failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:120]}
        return json.loads(done.stdout.splitlines()[-1])


def child(name: str, label: str, target: float, most: int, first: int) -> dict:
    """start: seconds to the first steps. near, steps: seconds and steps until within a nat, None if never. off: nats
    above the converged -ELBO at the end.
    """
    importlib.import_module("torch._dynamo")  # the first step of any optimiser does it: an import as well
    every = makers(KNOBS[:1]) | {CALLED[0]: by_default}  # imports jax, which does not count
    workload = all_workloads()[name]
    began = time.perf_counter()
    if label == CALLED[1]:
        model, guide = programs(workload)
        fit = credo.fit(model, guide, *workload.data, lr=workload.lr, device="cpu", progress=False)
        seconds = time.perf_counter() - began
        off = judged(workload, canonical(fit.params)).loss - target
        return {"near": seconds if off <= NEAR else None, "steps": len(fit.losses), "off": off}
    contender = every[label](workload, workload.lr)
    contender.steps(first)
    start = time.perf_counter() - began
    return {"start": start, **_until_near(workload, contender, target, start, first, most)}


def _until_near(workload: Workload, contender: Contender, target: float, seconds: float, steps: int, most: int) -> dict:
    while True:
        off = judged(workload, contender.params()).loss - target
        if off <= NEAR:
            return {"near": seconds, "steps": steps, "off": off}
        if steps >= most or seconds > LIMIT:
            return {"near": None, "steps": steps, "off": off}
        more = max(1, FIRST // PARTS)
        began = time.perf_counter()
        contender.steps(more)
        seconds += time.perf_counter() - began
        steps += more


if __name__ == "__main__":
    torch.set_num_threads(1)
    workload, contender, reference, limit, count = sys.argv[1:]
    print(json.dumps(child(workload, contender, float(reference), int(limit), int(count))))
