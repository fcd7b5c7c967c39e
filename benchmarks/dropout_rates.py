"""The variance of the gradient of learnt dropout rates, times its time: masks of all rows, or of each row.

    python benchmarks/dropout_rates.py [--hidden 100] [--steps 300] [--draws 60]

The pair `bnn_dropout` on 1,437 digits, 64-HIDDEN-10, in batches of 128, after some steps at the prior's rate. All four
contenders have the same mean (`tests/test_bnn_dropout.py` sums over all masks):

    shared, one-flip     a mask for all rows, each unit tried at its other value
    shared, score        a mask for all rows, the score function with a baseline
    rows, one-flip       a mask for each row whose KL counts once, each unit tried in all rows at once
    rows, score          a mask for each row whose KL counts once, the score function of each row

variance: of the gradients of the rates (unconstrained), over draws and batches, summed over the layers, in nats
squared. time: the median milliseconds of one gradient, in turns, in one process, not compiled. The last column is
variance times time as a share of that of the first row. One draw (particle) each.
"""

import argparse
import statistics
import time
from functools import partial
from typing import Any

import pandas as pd
import torch

import credo

BATCH, RATE, FIRST = 128, 0.1, 0.2  # rate of the prior, and where the rates are


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--draws", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pair = credo.load("bnn_dropout")
    _, x, y = pair.data()
    net = torch.nn.Sequential(torch.nn.Linear(64, options.hidden), torch.nn.ReLU(), torch.nn.Linear(options.hidden, 10))
    begun = {"shared": False, "rate": RATE}
    fit = credo.fit(
        *(partial(program, **begun) for program in (pair.model, pair.guide)),
        *(net, x, y),
        **{"steps": options.steps, "batch_size": BATCH, "lr": 1e-3, "progress": False},
    )
    net.load_state_dict({name.removesuffix(".value"): value for name, value in fit.params.items()})
    runners = {f"{rows}, {how}": runner(pair, rows == "rows", how) for rows in ("shared", "rows") for how in HOW}
    table = measured(runners, (net, x, y), options.draws)
    print(f"64-{options.hidden}-10, batches of {BATCH}, rates {FIRST} under a prior of {RATE}, {options.draws} draws")
    print(table.to_string(float_format=lambda value: f"{value:.3g}"))


HOW = ("one-flip", "score")


def runner(pair: credo.Pair, apart: bool, how: str) -> credo.SVI:
    settings: dict[str, Any] = {"shared": not apart, "once": apart}
    plan = {f"{layer}.weight.keep": how for layer in (0, 2)}
    return credo.SVI(
        partial(pair.model, rate=RATE, **settings),
        partial(pair.guide, rate=FIRST, learn=True, **settings),
        **{"plan": plan, "batch_size": BATCH, "particles": 1, "progress": False, "compile": False},
    )


def measured(runners: dict[str, credo.SVI], data: tuple[Any, ...], draws: int) -> pd.DataFrame:
    """A row for each runner: variance, milliseconds, and their product relative to the first."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in runners}
    times: dict[str, list[float]] = {name: [] for name in runners}
    for svi in runners.values():
        svi.gradients(*data)  # plans
    for _ in range(draws):
        for name, svi in runners.items():
            begun = time.perf_counter()
            gradient = svi.gradients(*data)
            times[name].append(time.perf_counter() - begun)
            found[name].append(torch.stack([g for site, g in gradient.items() if site.endswith(".rate")]).detach())
    rows = {}
    for name, every in found.items():
        stacked = torch.stack(every).double()
        error = (stacked.var(0) / draws).sqrt()
        rows[name] = {
            "variance": stacked.var(0).sum().item(),
            "ms": 1e3 * statistics.median(times[name]),
            **{f"mean {i}": value for i, value in enumerate(stacked.mean(0).tolist())},
            **{f"± {i}": value for i, value in enumerate(error.tolist())},
        }
    table = pd.DataFrame(rows).T
    product = table["variance"] * table["ms"]
    return table.assign(**{"variance x time": product / product.iloc[0]})


if __name__ == "__main__":
    main()
