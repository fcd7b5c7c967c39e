"""`scale.py rows`: a logistic regression on rows in a memory-mapped file, beside the same loop by hand in torch.

Seconds from the call of credo.fit to its first step, in a new process with an empty cache; memory of that process while
it runs, over what it held after the imports; and rows a second of credo and of the loop by hand, both compiled, which
take turns in one process. The ratio of their seconds of CPU, those of the threads that read ahead included, is what a
busy machine leaves as it is.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _scale_by_hand import hand
from _scale_data import child, logistic, mapped, memory, peak, write_rows

import credo

LR, LOOKS = 0.01, 12  # of memory
FIRST, OVER, SHARE = 10.0, 1024.0, 0.8  # seconds, MiB and share of the throughput that are wanted


def rows(n: int, batch: int, seconds: float) -> dict[str, Any]:
    """Prints and returns what was found for n rows. seconds: of each run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder, n)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
        print(f"{n:,} rows of 10 numbers, {size:,.0f} MiB in a file; batches of {batch:,}", flush=True)
        alone = child(Path(__file__).name, "memory", folder, batch, seconds, cache=folder / "cache")
        print(
            f"first step after {alone['first']:.1f} s (wanted {FIRST:.0f}), {alone['cpu']:.1f} s of CPU; "
            f"memory over that of the imports: at most "
            f"{alone['peak'] - alone['imported']:,.0f} MiB (wanted {OVER:,.0f})"
        )
        print("at " + ", ".join(f"{at:.0f} s {held - alone['imported']:,.0f}" for at, held in alone["held"]) + " MiB")
        found = child(Path(__file__).name, "speed", folder, batch, seconds, cache=folder / "cache")
    print(
        f"rows a second: credo {found['credo']:,.0f}, by hand {found['hand']:,.0f}: {found['ratio']:.2f} of it (wanted "
        f"{SHARE}), {found['ratio of CPU']:.2f} by seconds of CPU; {found['how']}; "
        f"-ELBO of the last steps {found['loss']:,.0f} and {found['hand loss']:,.0f} nats"
    )
    return alone | found


def _memory(folder: Path, batch: int, seconds: float) -> dict[str, Any]:
    """A run alone: seconds to the first step, and the memory that the process holds at several times."""
    imported, begun, spent = memory(), time.perf_counter(), time.process_time()
    first: list[float] = []
    held: list[tuple[float, float]] = []

    def look(svi: credo.SVI, step: int, loss: float) -> bool:
        now = time.perf_counter() - begun
        if not first:
            first.append(now)
        if now - first[0] >= len(held) * seconds / LOOKS:
            held.append((now, memory()))
        return now - first[0] > seconds

    # The first call of look() may come after the first block of steps; a run of one step says when the first ended.
    _fit(folder, batch, lambda *_: first.append(time.perf_counter() - begun) or True, 1)
    one, begun, cpu = first.pop(), time.perf_counter(), time.process_time() - spent
    _fit(folder, batch, look, 100)
    return {"first": one, "cpu": cpu, "imported": imported, "held": held, "peak": peak()}


def _speed(folder: Path, batch: int, seconds: float) -> dict[str, Any]:
    """The loop by hand takes its turns inside the callback, so that both have the same machine."""
    x, y = mapped(folder)
    by_hand = hand(x, y, batch, LR)
    by_hand(50)
    block = max(200, len(x) // batch // 3)
    mine: list[float] = []
    hands: list[float] = []
    ratios: list[float] = []
    cpu: list[float] = []
    last: list[float] = []
    state = {"at": 0.0, "cpu": 0.0}
    begun = time.perf_counter()

    def look(svi: credo.SVI, step: int, loss: float) -> bool:
        now = time.perf_counter()
        if state["at"]:
            mine.append(now - state["at"])
            start, spent = time.perf_counter(), time.process_time()
            last[:] = [loss, by_hand(block).item()]
            hands.append(time.perf_counter() - start)
            ratios.append(hands[-1] / mine[-1])
            cpu.append((time.process_time() - spent) / (spent - state["cpu"]))
        state["at"], state["cpu"] = time.perf_counter(), time.process_time()
        return state["at"] - begun > 2 * seconds

    fit = _fit(folder, batch, look, block)
    late = len(mine) // 2  # from here on its step is compiled
    speed = {
        label: batch * block / statistics.median(times[late:]) for label, times in (("credo", mine), ("hand", hands))
    }
    ratio = statistics.median(ratios[late:])
    return {
        **speed,
        "ratio": ratio,
        "ratio of CPU": statistics.median(cpu[late:]),
        "loss": last[0],
        "hand loss": last[1],
        "how": fit.plan.compiled,
        "turns": len(mine),
    }


def _fit(folder: Path, batch: int, look: Any, every: int) -> credo.Fit:
    options = {"batch_size": batch, "particles": 1, "lr": LR, "steps": 10**8, "progress": False}
    return credo.fit(logistic, "mean_field", *mapped(folder), callback=look, callback_every=every, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    credo.fit, credo.SVI  # noqa: B018  (imports the engine)
    run = {"memory": _memory, "speed": _speed}[sys.argv[1]]
    print(json.dumps(run(Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
