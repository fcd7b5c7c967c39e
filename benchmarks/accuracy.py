"""How close the default fit comes to the exact posterior, over seeds: the figures of docs/results.md.

    python benchmarks/accuracy.py [seeds]

All defaults: `credo.fit(model, guide, *data)`. Coin: KL(q || exact) in nats for 100, 5,000 and all flips (two seeds),
and for the same pair trained by pyro.infer.SVI (Trace_ELBO, Adam at lr 0.02) for as many steps. Linear regression on
the diabetes set: the largest error of a mean in exact sds, the largest error of an sd, the evidence gap in nats.
"""

import platform
import sys
import time

import pyro
import pyro.infer
import pyro.optim
import torch
from torch.distributions import Beta, kl_divergence

import credo


def main(seeds: int) -> None:
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    print(f"{versions}, {platform.machine()}, {torch.get_num_threads()} threads")
    coin, regression = credo.load("coin_toss"), credo.load("linear_regression")
    assert coin.data is not None and regression.data is not None and coin.posterior is not None
    (flips,) = coin.data()
    print("\ncoin_toss        flips  seed   steps  seconds   KL(q||exact)    Pyro's SVI, last iterate")
    for n in (100, 5_000, len(flips)):
        exact = coin.posterior(flips[:n]).marginals["p"]
        for seed in range(seeds if n < len(flips) else min(seeds, 2)):
            start = time.perf_counter()
            fit = credo.fit(coin.model, coin.guide, flips[:n], seed=seed, device="cpu", progress=False)
            seconds = time.perf_counter() - start
            kl = kl_divergence(_beta(fit.params), exact).item()
            plain = kl_divergence(_beta(_pyro(coin, (flips[:n],), len(fit.losses), seed)), exact).item()
            print(f"{n:22,} {seed:5} {len(fit.losses):7,} {seconds:8.1f} {kl:14.1e} {plain:27.1e}", flush=True)
    print("\nlinear_regression  seed   steps  seconds   mean error (sds)   sd error (%)   evidence gap (nats)")
    for seed in range(seeds):
        start = time.perf_counter()
        fit = credo.fit(regression.model, regression.guide, *regression.data(), seed=seed, device="cpu", progress=False)
        seconds = time.perf_counter() - start
        table = credo.compare(fit)
        error, sd = table["error in sds"].abs().max(), 100 * (table["sd ratio"] - 1).abs().max()
        gap = f"{table.attrs['evidence_gap']:.4f} ± {table.attrs['elbo_error']:.4f}"
        print(f"{seed:22} {len(fit.losses):7,} {seconds:8.1f} {error:18.4f} {sd:14.2f} {gap:>21}", flush=True)


def _pyro(pair: credo.Pair, data: tuple, steps: int, seed: int) -> dict[str, torch.Tensor]:
    """The same guide trained the usual way: the last iterate of Pyro's own SVI."""
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        pyro.set_rng_seed(seed)
        optim = pyro.optim.Adam({"lr": 0.02})
        svi = pyro.infer.SVI(pair.model, pair.guide, optim, pyro.infer.Trace_ELBO())
        for _ in range(steps):
            svi.step(*data)
        return {name: value.detach() for name, value in pyro.get_param_store().items()}


def _beta(params: dict[str, torch.Tensor]) -> Beta:
    mean, concentration = params["mean"].double(), params["concentration"].double()
    return Beta(mean * concentration, (1 - mean) * concentration)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
