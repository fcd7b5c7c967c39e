"""`scale.py equal` and `scale.py speed`: two processes that torchrun starts, beside one.

equal   losses of 200 steps with the same global batch, eager and compiled: largest relative difference, wanted below
        1e-5 where all processes draw the noise of one. Where each row has noise of its own (local reparametrisation),
        two processes take another draw of the same estimator, on batches in another order: the difference of the mean
        losses, wanted within 4 of its Monte Carlo errors. That the mean gradient is that of one process is tested in
        tests/inference/stepping/test_together.py.
speed   rows a second of compiled steps: one process, two of a job with the same global batch, and two that know nothing
        of each other, which is the most that the machine can do. Wanted: two of a job >= 1.6 times one.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

import credo
from credo.inference.capture import native
from credo.inference.runtime.workers import gathered, workers

CLOSE, FASTER, ERRORS, LAST = 1e-5, 1.6, 4.0, 100
SHARED = (("linear regression", "fast"), ("BNN", "pathwise"))  # programs and plans: all processes draw the same noise
OWN = (("BNN", "local"),)  # each process draws noise for its own rows
COMPILED = 100  # fits until the compiler has ended, at most
SPEED = ("VAE", "BNN")
BATCH = {"linear regression": 100, "BNN": 512, "VAE": 512}
PIXELS, HIDDEN, LATENTS, ROWS = 784, 200, 8, 4096
JOB = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def equal(steps: int) -> dict[str, float]:
    """{program: largest relative difference of the losses of two processes and of one}, eager and compiled.

    For noise of rows: the difference of the mean of the last losses, in its Monte Carlo errors.
    """
    found = {}
    for name, plan in (*SHARED, *OWN):
        for how in ("eager", "compiled"):
            one, two = (run(processes, name, how, steps, plan) for processes in (1, 2))
            a, b = (torch.tensor(each["losses"], dtype=torch.float64) for each in (one, two))
            same = "" if len(a) == len(b) == steps else ", NOT THE SAME NUMBER OF STEPS"
            if (name, plan) in SHARED:
                far = ((b - a).abs() / a.abs().clamp(min=1.0)).max().item()
                words = f"shared noise, losses of 2 processes within {far:.1e} of 1 (wanted {CLOSE:g})"
            else:
                d = (b - a)[-LAST:]
                error = d.std() / len(d) ** 0.5
                far = (d.mean() / error).item()
                words = (
                    f"noise of each row, mean of the last {len(d)} losses of 2 processes {d.mean():+.1f} ± {error:.1f} "
                    f"nats from {a[-LAST:].mean():,.1f} of 1: {far:+.1f} errors (wanted within {ERRORS:g})"
                )
            found[f"{name}, {plan}, {how}"] = far
            print(f"{name}, {plan}, {how}: {len(a)} steps, {words}{same}; {two['how']}", flush=True)
    return found


def speed(steps: int) -> dict[str, float]:
    """{program: rows a second of two processes, as a multiple of one}."""
    found = {}
    for name in SPEED:
        one = run(1, name, "timed", steps)["rate"]
        two = run(2, name, "timed", steps)["rate"]
        apart = sum(each["rate"] for each in together(name, steps))
        found[name] = two / one
        print(
            f"{name}: rows a second: 1 process {one:,.0f}, 2 of a job {two:,.0f}: {two / one:.2f} times (wanted "
            f"{FASTER}); 2 that know nothing of each other {apart:,.0f}: {apart / one:.2f} times, the most this "
            f"machine does; a job reaches {two / apart:.0%} of it",
            flush=True,
        )
    return found


def run(processes: int, name: str, how: str, steps: int, plan: str = "fast") -> dict[str, Any]:
    """What the first process of a job found."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result")
        begin(processes, name, how, steps, result, plan, finish=True)
        found: dict[str, Any] = json.loads(result.read_text())
    return found


def together(name: str, steps: int) -> list[dict[str, Any]]:
    """The same in two processes at once that do not know each other, each with half a batch."""
    with tempfile.TemporaryDirectory() as folder:
        results = [Path(folder, str(k)) for k in range(2)]
        running = [begin(1, name, "half", steps, result, "fast", finish=False) for result in results]
        for each in running:
            each.wait(900)
        return [json.loads(result.read_text()) for result in results]


def begin(
    processes: int, name: str, how: str, steps: int, result: Path, plan: str, *, finish: bool
) -> subprocess.Popen[bytes]:
    """This file in so many processes. Raises RuntimeError with the end of what they said, if they fail."""
    command = [sys.executable, *(JOB if processes > 1 else ()), __file__, name, how, str(steps), str(result), plan]
    log = result.with_suffix(".log").open("ab")
    running = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if finish and running.wait(900):
        raise RuntimeError(f"{name}, {how}: {result.with_suffix('.log').read_text()[-3000:]}")
    return running


def program(name: str) -> tuple[Any, ...]:
    """(model, guide, data): the same in every process."""
    torch.manual_seed(0)
    if name == "linear regression":
        x = torch.randn(1000, 3)
        pair = credo.load("linear_regression")
        return pair.model, pair.guide, (x, x @ torch.tensor([1.0, -2.0, 0.5]) + 0.7 * torch.randn(1000))
    x = (torch.rand(ROWS, PIXELS) < 0.2).float()
    if name == "BNN":
        pair = credo.load("bnn_classifier")
        return pair.model, pair.guide, (network(PIXELS, HIDDEN, 10), x, torch.randint(0, 10, (ROWS,)))
    pair = credo.load("vae")
    return pair.model, pair.guide, (network(LATENTS, HIDDEN, PIXELS), network(PIXELS, HIDDEN, 2 * LATENTS), x)


def network(*units: int) -> nn.Module:
    first, hidden, last = units
    return nn.Sequential(nn.Linear(first, hidden), nn.Tanh(), nn.Linear(hidden, last))


def work(name: str, how: str, steps: int, result: Path, plan: str) -> None:
    model, guide, data = program(name)
    batch = BATCH[name] // (2 if how == "half" else 1)
    sites = dict(data[0].named_parameters()) if plan != "fast" else {}
    options: dict[str, Any] = {
        **{"particles": 1, "lr": 1e-3, "progress": False, "compile": how != "eager", "batch_size": batch},
        **{"steps": steps, "plan": dict.fromkeys(sites, plan) if sites else plan},
    }
    times: list[tuple[float, int]] = []
    if how in ("timed", "half"):
        options |= {
            "callback": lambda svi, step, loss: times.append((time.perf_counter(), step)),
            "callback_every": 100,
        }
    fit = fitted(model, guide, data, options) if how == "compiled" else credo.fit(model, guide, *data, **options)
    if os.environ.get("RANK", "0") != "0":
        return
    rates = [batch * (b - a) / (t - s) for (s, a), (t, b) in pairwise(times)]
    late = sorted(rates[len(rates) // 2 :])  # compiled by then
    found = {"losses": list(fit.losses), "how": fit.plan.compiled, "rate": late[len(late) // 2] if late else 0.0}
    result.write_text(json.dumps(found))


def fitted(model: Any, guide: Any, data: tuple[Any, ...], options: dict[str, Any]) -> credo.Fit:
    """The fit by compiled steps in all processes, as soon as the compiler has ended: fits before it were replayed."""
    native.PATIENCE = native.LOOK = 0.0
    for _ in range(COMPILED):
        fit = credo.fit(model, guide, *data, **options)
        if all(said.endswith(", compiled") for said in gathered(workers(), fit.plan.compiled)):
            break
    return fit


if __name__ == "__main__":
    torch.set_num_threads(1)
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
