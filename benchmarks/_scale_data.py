"""What the parts of scale.py share: rows in a file, a logistic regression, memory of a process, and child processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch

D = 10  # columns of x
BLOCK = 250_000  # rows that are drawn at once
TRUTH = np.linspace(-1.0, 1.0, D, dtype=np.float32)
HERE = Path(__file__).parent
MIB = 1024  # kB, in which Linux counts


def write_rows(folder: Path, n: int) -> None:
    """x.f32 with n rows of D normal numbers, and y.f32 with their classes, 0 or 1, by a logistic regression."""
    random = np.random.default_rng(0)
    with (folder / "x.f32").open("wb") as xs, (folder / "y.f32").open("wb") as ys:
        for first in range(0, n, BLOCK):
            x = random.standard_normal((min(BLOCK, n - first), D), dtype=np.float32)
            y = random.random(len(x), dtype=np.float32) < 1 / (1 + np.exp(-x @ TRUTH))
            xs.write(x.tobytes())
            ys.write(y.astype(np.float32).tobytes())


def mapped(folder: Path) -> tuple[np.memmap, np.memmap]:
    """x (n, D) and y (n,) of `write_rows`, in their files."""
    n = (folder / "y.f32").stat().st_size // 4
    x = np.memmap(folder / "x.f32", np.float32, "r", shape=(n, D))
    return x, np.memmap(folder / "y.f32", np.float32, "r", shape=(n,))


def logistic(x: torch.Tensor, y: torch.Tensor) -> None:
    """b ~ N(0, I), y_n ~ Bernoulli(sigmoid(x_n . b))."""
    b = pyro.sample("b", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=x @ b), obs=y)


def memory() -> float:
    """MiB that this process holds now, pages of mapped files included; NaN where the system does not say."""
    return _status("VmRSS:")


def peak() -> float:
    """MiB that it held at most. Not ru_maxrss, which counts what its parent held when it began it."""
    return _status("VmHWM:")


def _status(name: str) -> float:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / MIB for line in lines if line.startswith(name)), float("nan"))


def child(program: str, *arguments: Any, cache: Path | None = None, timeout: float = 900) -> dict[str, Any]:
    """What a program of this folder prints last, as JSON, in a process of its own with one thread.

    cache: of compiled steps. Raises RuntimeError with the end of what it said, if it fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if cache is not None:
        environment |= {"CREDO_CACHE": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor")}
    command = [sys.executable, str(HERE / program), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"{program} {' '.join(map(str, arguments))}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
