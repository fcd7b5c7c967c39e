"""`scale.py cost`: the terms of a cost model of a step, measured and fitted; docs/scale.md extrapolates it.

    t(B, P, K) = a + f P + (g + b P) B / K + [K > 1] (c + d P) + [streamed] e R B / K      seconds

B rows of the global batch, P weights, K processes, R bytes of a row. a: of a step whatever its size; f: of one weight,
its draw, KL and Adam; g: of one row; b: of one weight and row; c, d: latency, and time for a number, of the sum
over processes; e: of a byte read into a shuffled window. A Bayesian network in float32 on one thread, compiled.
a, b, e, f, g are seconds of CPU, which other work disturbs little; c, d are wall time, the least of rounds.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from scipy.optimize import nnls
from torch import nn

import credo

ROUNDS = 7
INPUTS, CLASSES = 64, 10
SIZES = ((32, 16), (32, 256), (256, 64), (512, 128), (2048, 16), (2048, 256))  # rows of a batch, hidden units
STEPS, PATIENCE = 1000, 200.0  # PATIENCE: seconds that compiling may take


def cost(quick: bool) -> dict[str, float]:
    """{coefficient: seconds}, printed with how far the fitted model is from each measurement."""
    found = {**_compute(quick), **_together(quick), "e": _reading(quick)}
    units = {
        "a": "a step",
        "f": "a weight",
        "g": "a row",
        "b": "a row and weight",
        "c": "a sum",
        "d": "a number in it",
        "e": "a byte",
    }
    print("; ".join(f"{key} = {found[key]:.2e} s {unit}" for key, unit in units.items()), flush=True)
    return found


def _compute(quick: bool) -> dict[str, float]:
    """a, f, g and b: networks of two layers, at several batches and widths."""
    sizes = SIZES[::2] if quick else SIZES
    taken, design = [], []
    for batch, width in sizes:
        weights = (INPUTS + 1) * width + (width + 1) * CLASSES
        design.append([1.0, weights, batch, batch * weights])
        taken.append(_step(batch, width, STEPS // 4 if quick else STEPS))
        print(f"{batch:,} rows, {weights:,} weights: {1e6 * taken[-1]:,.0f} µs of CPU a step", flush=True)
    (a, f, g, b), far = _fitted(design, taken)
    print(f"compute: the model is within {far:.0%} of each")
    return {"a": a, "f": f, "g": g, "b": b}


def _step(batch: int, width: int, steps: int) -> float:
    """Median seconds of CPU of a step of credo, over so many steps after it is compiled."""
    torch.manual_seed(0)
    pair = credo.load("bnn_classifier")
    net = nn.Sequential(nn.Linear(INPUTS, width), nn.Tanh(), nn.Linear(width, CLASSES))
    data = net, torch.randn(4096, INPUTS), torch.randint(0, CLASSES, (4096,))
    svi = credo.SVI(pair.model, pair.guide, particles=1, plan="fast", batch_size=batch, progress=False)
    begun = time.perf_counter()
    while svi.plan is None or svi.plan.compiled != "captured once, compiled":
        if time.perf_counter() - begun > PATIENCE:
            raise RuntimeError(f"no compiled step after {PATIENCE:.0f} s: {svi.plan.compiled if svi.plan else ''}")
        svi.run(*data, steps=500)
    times: list[tuple[float, int]] = []
    look = {"callback": lambda svi, step, loss: times.append((time.process_time(), step)), "callback_every": 50}
    svi.run(*data, steps=steps, **look)
    late = sorted((t - s) / (b - a) for (s, a), (t, b) in pairwise(times[1:]))
    return late[len(late) // 2]


def _reading(quick: bool) -> float:
    """e: chunks of a file into a shuffled window."""
    numbers = 2**22 if quick else 2**24
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        np.zeros((numbers // 16, 16), np.float32).tofile(path)
        x = np.memmap(path, np.float32, "r", shape=(numbers // 16, 16))
        window, places = torch.empty(len(x), 16), torch.randperm(len(x))

        def read() -> None:
            for k in range(0, len(x), 2**14):
                window.index_copy_(0, places[k : k + 2**14], torch.from_numpy(x[k : k + 2**14].copy()))

        seconds = _seconds(read, time.process_time, least=1)
    print(f"reading: {4 * numbers / seconds / 2**20:,.0f} MiB a second of CPU into a shuffled window")
    return seconds / (4 * numbers)


def _together(quick: bool) -> dict[str, float]:
    """c and d: an all_reduce of two processes over gloo."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, str(result), str(int(quick))], env=environment, capture_output=True, timeout=300
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode()[-2000:])
        taken = json.loads(result.read_text())
    (c, d), far = _fitted([[1.0, numbers] for numbers, _ in taken], [seconds for _, seconds in taken])
    print(f"sum over 2 processes: {len(taken)} sizes, the model is within {far:.0%} of each")
    return {"c": c, "d": d}


def _reduce(result: Path, quick: bool) -> None:
    distributed.init_process_group("gloo")
    taken = []
    for numbers in (10, 1000, 10_000, 100_000, 1_000_000)[: 4 if quick else 5]:
        vector = torch.ones(numbers)
        taken.append((numbers, _seconds(lambda v=vector: distributed.all_reduce(v), least=20, same=True)))
    if distributed.get_rank() == 0:
        result.write_text(json.dumps(taken))
    distributed.destroy_process_group()


def _seconds(
    call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter, least: int = 5, same: bool = False
) -> float:
    """Median seconds of a call over rounds, the least of them for `same`: other work only adds to a sum of processes.

    same: whether every process must make as many calls.
    """
    begun = time.perf_counter()
    for _ in range(3):
        call()
    once = (time.perf_counter() - begun) / 3
    n = least if same else max(least, int(0.1 / once))
    times = []
    for _ in range(ROUNDS):
        begun = clock()
        for _ in range(n):
            call()
        times.append((clock() - begun) / n)
    return min(times) if same else sorted(times)[ROUNDS // 2]


def _fitted(design: Sequence[Sequence[float]], taken: Sequence[float]) -> tuple[list[float], float]:
    """(the coefficients >= 0 with the least relative squared error, the largest relative error)."""
    scaled = np.array(design) / np.array(taken)[:, None]
    found, _ = nnls(scaled / scaled.max(0), np.ones(len(taken)))
    found /= scaled.max(0)
    return found.tolist(), float(np.abs(scaled @ found - 1).max())


if __name__ == "__main__":
    torch.set_num_threads(1)
    _reduce(Path(sys.argv[1]), sys.argv[2] == "1")
