"""Does the same pair run on data larger than memory, and on several processes, and what does it cost?

    python benchmarks/scale.py [--only rows,equal] [--quick]        or: make bench-scale

rows       1e7 rows in a memory-mapped file: first step, memory, throughput beside a loop by hand. See `_scale_rows`.
minibatch  fits in minibatches beside their exact posteriors. See `_scale_minibatch`.
equal      the losses of two processes and of one with the same global batch. See `_scale_jobs`.
speed      rows a second of two processes, of one, and of two that know nothing of each other. See `_scale_jobs`.
kill       processes of a job killed at random moments, and what comes out. See `_scale_kill`.
latents    the time of a step with 1e4, 1e5 and 1e6 latents. See `_scale_latents`.
cost       the coefficients of the cost model of docs/scale.md. See `_scale_cost`.

One thread of a CPU a process. --quick: small sizes, to see that each part runs; its numbers mean nothing.
"""

import argparse
import importlib
import os
import platform
import time
import traceback
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import torch


def rows(quick: bool) -> None:
    _part("_scale_rows").rows(1_000_000 if quick else 10_000_000, 1000, 10.0 if quick else 40.0)


def minibatch(quick: bool) -> None:
    _part("_scale_minibatch").minibatch(quick)


def equal(quick: bool) -> None:
    _part("_scale_jobs").equal(40 if quick else 200)


def speed(quick: bool) -> None:
    _part("_scale_jobs").speed(400 if quick else 3000)


def kill(quick: bool) -> None:
    _part("_scale_kill").kill(5 if quick else 20)


def latents(quick: bool) -> None:
    sizes = (1000, 10_000) if quick else (10_000, 100_000, 1_000_000)
    _part("_scale_latents").latents(sizes, 100, 1000 if quick else 20_000)


def cost(quick: bool) -> None:
    _part("_scale_cost").cost(quick)


PARTS: dict[str, Callable[[bool], None]] = {
    part.__name__: part for part in (rows, minibatch, equal, speed, kill, latents, cost)
}


def _part(name: str) -> Any:
    return importlib.import_module(name)


def main() -> int:
    """The number of parts that failed; the others run all the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    wanted = given.only.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"--only: got {', '.join(unknown)}, wanted some of {', '.join(PARTS)}")
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    )
    failed = 0
    for name in wanted:
        print(f"\n== {name}", flush=True)
        begun = time.perf_counter()
        try:
            PARTS[name](given.quick)
        except Exception:
            traceback.print_exc()
            failed += 1
        print(f"{time.perf_counter() - begun:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
