"""How fast is a step of credo, compared with Pyro, torch by hand, and NumPyro?

    python benchmarks/speed.py [steps] [cold] [memory] [--workloads coin,BLR] [--quick] [--out table.csv]
    or: make bench-speed

Without an argument it runs all three. One thread of a CPU, float32, Adam, one particle, always the same batch.

steps   median microseconds a step on six workloads, contenders taking turns; all losses, which must agree;
        the targets; and the pairs that come with credo, compared with Pyro. See `_speed_steps`, `_speed_pairs`.
cold    seconds to the first 1000 steps and to a converged ELBO in a fresh process with empty caches. See `_speed_cold`.
memory  the peak memory of a compiled run and of one that is not compiled. See `_speed_memory`.

Targets of steps: over Pyro with validation >= 40 times on coin and BLR, 15 on BNN, 7 on enum and graph, 1.7 on VAE;
by `svi.step` in a loop of one's own >= 20 on coin and BLR, 15 on BNN, 7 on enum, 1.7 on VAE, and <= 60 µs above `run`;
<= 1.0 of the time of compiled torch and of NumPyro's `svi.update` (VAE <= 1.05); <= 1.1 of a `lax.scan`, and <= 1.0 on
at least half. Without jax and numpyro (`pip install credo[bench]`) their rows are left out.
"""

import argparse
import os
import platform
import warnings
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import pandas as pd
import pyro
import torch
from _speed_cold import FIRST, cold
from _speed_contenders import CREDO, makers, missing
from _speed_memory import memory
from _speed_pairs import ELBOS, pairs
from _speed_steps import steps
from _speed_torch import KNOBS
from _speed_workloads import all_workloads

COMMANDS = ("steps", "cold", "memory")


class Counts(NamedTuple):
    """rounds, seconds: of the stopwatch. first: steps before losses are compared. knobs: settings of compiled torch.

    cold: steps of the first stretch; horizon: of its reference, None for the workload's own. memory: steps.
    """

    rounds: int
    seconds: float
    first: int
    knobs: int
    cold: int
    horizon: int | None
    memory: int


FULL = Counts(11, 0.2, 300, len(KNOBS), FIRST, None, 1000)
QUICK = Counts(3, 0.02, 100, 1, 50, 100, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "commands", nargs="*", metavar="command", help=f"of {', '.join(COMMANDS)}; all if none is given"
    )
    parser.add_argument("--workloads", help="names with commas between them, of workloads or pairs; all if not given")
    parser.add_argument(
        "--contenders", help="the words of the tables with semicolons between them; credo always is one"
    )
    parser.add_argument("--quick", action="store_true", help="whether everything runs; the numbers mean little")
    parser.add_argument("--out", help="a .csv file for the tables, one under the other")
    options = parser.parse_args()
    commands = options.commands or list(COMMANDS)
    counts = QUICK if options.quick else FULL
    torch.set_num_threads(1)
    every, workloads = makers(KNOBS[: counts.knobs]), all_workloads()
    names = options.workloads.split(",") if options.workloads else [*workloads, *ELBOS]
    labels = [*options.contenders.split(";"), CREDO] if options.contenders else list(every)
    for given, known, what in (
        (commands, COMMANDS, "command"),
        (names, (*workloads, *ELBOS), "--workloads"),
        (labels, every, "--contenders"),
    ):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"{what}: {unknown[0]!r} is none of {', '.join(known)}")
    print(f"torch {torch.__version__}, Pyro {pyro.__version__}, Python {platform.python_version()}, {_machine()}")
    if lacking := missing():
        print(f"without NumPyro: {' and '.join(lacking)} not installed (pip install credo[bench])")
    chosen = {name: workload for name, workload in workloads.items() if name in names}
    taking_part = {label: make for label, make in every.items() if label in labels}
    tables = {}
    for command in commands:
        print(f"\n== {command}", flush=True)
        if command == "steps":
            if chosen:
                tables["steps"] = steps(chosen, taking_part, counts.seconds, counts.rounds, counts.first)
            if shipped := [name for name in names if name in ELBOS]:
                tables["pairs"] = pairs(shipped, counts.seconds, counts.rounds, counts.first)
        elif command == "cold":
            tables["cold"] = cold(chosen, taking_part, counts.horizon, counts.cold)
        else:
            tables["memory"] = memory(counts.memory)
    if options.out:
        whole = [table.assign(table=name) for name, table in tables.items()]
        pd.concat(whole, ignore_index=True).set_index("table").to_csv(options.out)


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    for category in (UserWarning, FutureWarning):  # of vmap and of compilers, about what is not measured here
        warnings.filterwarnings("ignore", category=category)
    main()
