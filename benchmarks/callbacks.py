"""What a callback every 100 steps costs: CPU time of compiled runs with one over that of runs without, in one process.

python benchmarks/callbacks.py [steps]        the callback keeps the step and the loss; the ratio is of the least times
"""

import sys
import time
import warnings
from typing import Any

import torch

import credo
from credo.inference.capture import native

PAIRS = {"coin_toss": 1, "linear_regression": 1, "bnn_classifier": 10}  # by how much fewer steps
REPEATS = 7


def compiled(name: str) -> tuple[credo.SVI, tuple[Any, ...]]:
    """A runner whose steps are compiled, and its data."""
    pair = credo.load(name)
    assert pair.data is not None
    runner, data = credo.SVI(pair.model, pair.guide, progress=False, plan="fast", lr=0.001), pair.data()
    fit = runner.run(*data, steps=200)
    end = time.monotonic() + 240
    while "compiled" not in fit.plan.compiled and time.monotonic() < end:
        fit = runner.run(*data, steps=50)
        time.sleep(0.2)
    return runner, data


def seconds(runner: credo.SVI, data: tuple[Any, ...], steps: int, **options: Any) -> float:
    """CPU time of a run of so many steps."""
    begun = time.process_time()
    runner.run(*data, steps=steps, **options)
    return time.process_time() - begun


def main(steps: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    native.PATIENCE = 0.0  # compile at once
    print("pair                microseconds a step   with a callback every 100   ratio")
    for name, fewer in PAIRS.items():
        runner, data = compiled(name)
        count = steps // fewer
        plain, watched, seen = [], [], list[tuple[int, float]]()

        def keep(svi: credo.SVI, step: int, loss: float, seen: list[tuple[int, float]] = seen) -> None:
            seen.append((step, loss))

        for _ in range(REPEATS):
            plain.append(seconds(runner, data, count))
            watched.append(seconds(runner, data, count, callback=keep, callback_every=100))
        a, b = min(plain), min(watched)
        print(f"{name:20s}{a / count * 1e6:19.1f}{b / count * 1e6:28.1f}{b / a:8.3f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
