"""`speed.py memory`: the peak memory of a run of the VAE, compiled and not.

peak resident set, MiB, of the process that runs; and of the largest of its children, which compiles
"""

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch
from _scale_data import MIB, peak
from _speed_pyro import by_credo
from _speed_steps import LR
from _speed_timing import warm
from _speed_workloads import all_workloads


def memory(steps: int) -> pd.DataFrame:
    """A row for each of compile=True and compile=False. steps: after the compiled code is in use."""
    rows = []
    for compile in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            caches = {key: str(Path(folder, key)) for key in ("CREDO_CACHE", "TORCHINDUCTOR_CACHE_DIR")}
            command = [sys.executable, __file__, str(int(compile)), str(steps)]
            done = subprocess.run(command, env=os.environ | caches, stdout=subprocess.PIPE, text=True, check=True)
        rows.append({"workload": "VAE", "compile": compile, **json.loads(done.stdout.splitlines()[-1])})
    table = pd.DataFrame(rows)
    print(f"\n{'VAE':<16}{'peak MiB':>10}{'its child':>11}{'ready':>8}")
    for row in rows:
        print(f"compile={row['compile']!s:<8}{row['peak']:10.0f}{row['child']:11.0f}{row['ready']!s:>8}")
    if len(rows) > 1:
        print(f"compiled / not: {rows[0]['peak'] / rows[1]['peak']:.2f}")
    return table


def child(compile: bool, steps: int) -> dict:
    contender = by_credo(compile=compile)(all_workloads()["VAE"], LR)
    ready = warm(contender)
    contender.steps(steps)
    return {"peak": own_peak(), "ready": ready} | {
        "child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / MIB
    }


def own_peak() -> float:
    """MiB, also where there is no /proc."""
    found = peak()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB if math.isnan(found) else found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(child(bool(int(sys.argv[1])), int(sys.argv[2]))))
