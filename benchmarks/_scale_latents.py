"""`scale.py latents`: a latent for each row, its parameters in a table of which a step touches the rows of a batch.

    z_n ~ N(mu, 1), x_n ~ N(z_n, 1), n = 1..N        guide: a normal for mu and for each z_n

Microseconds of a step at N = 1e4, 1e5 and 1e6 rows, batches of the same size; wanted: the same.
"""

import json
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from _scale_data import child, peak

import credo

SLOWER = 1.2  # times the step of the fewest rows, at most


def model(x: torch.Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Normal(mu, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def latents(sizes: tuple[int, ...], batch: int, steps: int, rounds: int = 3) -> dict[int, float]:
    """{N: least of the rounds' medians of microseconds of a step}, each in a process of its own, sizes by turns."""
    each = [{n: child("_scale_latents.py", n, batch, steps) for n in sizes} for _ in range(rounds)]
    found = {n: min(one[n]["microseconds"] for one in each) for n in sizes}
    for n in sizes:
        seen = " ".join(f"{one[n]['microseconds']:,.1f}" for one in each)
        print(
            f"{n:>9,} latents: {found[n]:8,.1f} µs a step (of {seen}), {found[n] / found[sizes[0]]:.2f} of the time at "
            f"{sizes[0]:,} (wanted at most {SLOWER}); first step after {each[0][n]['first']:.1f} s, memory at most "
            f"{each[0][n]['peak']:,.0f} MiB; {each[0][n]['how']}",
            flush=True,
        )
    return found


def work(n: int, batch: int, steps: int) -> dict[str, Any]:
    x = 1.0 + 2**0.5 * torch.randn(n, generator=torch.Generator().manual_seed(0))
    begun = time.perf_counter()
    times: list[tuple[float, int]] = []

    def look(svi: credo.SVI, step: int, loss: float) -> None:
        times.append((time.perf_counter(), step))

    options: dict[str, Any] = {"particles": 1, "progress": False, "callback": look, "callback_every": 200}
    fit = credo.fit(model, "mean_field", x, batch_size=batch, steps=steps, **options)
    late = times[len(times) // 2 :]
    each = [1e6 * (t - s) / (b - a) for (s, a), (t, b) in pairwise(late)]
    return {
        **{"microseconds": statistics.median(each), "first": times[0][0] - begun},
        **{"how": fit.plan.compiled, "peak": peak()},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(work(*map(int, sys.argv[1:4]))))
