"""Variance × time of the gradient that trains each pair of this repository, at the start and after some steps.

    python benchmarks/gradients.py [--points FILE] [--out table.csv]

All defaults. variance: the trace of the covariance of the gradient of -ELBO, unconstrained; time: the median
CPU milliseconds of one. To compare two versions of credo, run both at the same points: the first writes FILE, the
second, with PYTHONPATH at the other checkout, reads it.
"""

import argparse
import statistics
import time
from pathlib import Path

import pandas as pd
import torch

import credo
from credo.inference.objective.gradients import gradients
from credo.inference.runtime.parameters import unconstrained
from credo.inference.runtime.state import entered

STEPS, DRAWS = 300, 100


def points_of(pair: credo.Pair, data: tuple) -> list[dict[str, torch.Tensor]]:
    """Unconstrained parameters at the start and after STEPS steps of the default run."""
    found = []
    for steps in (0, STEPS):
        runner = credo.SVI(pair.model, pair.guide, progress=False, device="cpu")
        runner.prepare(*data)
        for _ in range(steps):
            runner.step(*data)
        with entered(runner._prepared.state):
            found.append({name: leaf.detach().clone() for name, leaf in unconstrained().items()})
    return found


def measured(pair: credo.Pair, data: tuple, point: dict[str, torch.Tensor]) -> dict:
    """One row of the table: the plan at this point, the variance of the gradient and its time."""
    runner = credo.SVI(pair.model, pair.guide, progress=False, device="cpu")
    runner.prepare(*data)
    together, prepared, _ = runner._begin(data)
    with entered(prepared.state), torch.no_grad():
        for name, leaf in unconstrained().items():
            leaf.copy_(point[name])
    runner.race(*data)
    times, found = [], []
    with entered(prepared.state):
        for _ in range(DRAWS):
            start = time.process_time()
            gradient = gradients(lambda: runner._steps.loss(together, runner.plan)[1])
            times.append(time.process_time() - start)
            found.append(torch.cat([g.flatten() for g in gradient.values()]).double())
    variance, ms = torch.stack(found).var(0).sum().item(), 1000 * statistics.median(times)
    sites = {f"{e.estimator} {e.term}" for e in runner.plan.entries}
    return {"plan": ", ".join(sorted(sites)), "particles": prepared.particles, "variance": variance, "ms": ms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=Path, help="written if it is not there, else read")
    parser.add_argument("--out", type=Path, help="a .csv file for the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = torch.load(options.points) if options.points and options.points.exists() else {}
    rows = []
    for name in credo.names():
        pair = credo.load(name)
        data = pair.data()
        points = kept.get(name) or points_of(pair, data)
        kept[name] = points
        for when, point in zip(("start", f"{STEPS} steps"), points, strict=True):
            row = {"pair": name, "at": when} | measured(pair, data, point)
            rows.append(row | {"product": row["variance"] * row["ms"]})
            print({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    if options.points and not options.points.exists():
        torch.save(kept, options.points)
    if options.out:
        pd.DataFrame(rows).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
