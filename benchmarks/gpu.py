"""Is a captured step right on a GPU, and how fast is it?

    python benchmarks/gpu.py        under ten minutes on one GPU; without a GPU it only says so

For every pair, with all defaults except the plan: the losses of 50 steps with compile=True and with compile=False for
the same seed (they must agree to 1e-5), and the median microseconds of a step, the two in turns. Then one fit of the
coin toss until it stops by itself, compared with the exact posterior.
"""

import statistics
import sys
import time

import torch

import credo

STEPS, ROUNDS, SECONDS, CLOSE = 50, 7, 0.3, 1e-5


def main() -> None:
    if not torch.cuda.is_available():
        print("no GPU here: nothing to measure")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"\n{'pair':<24}{'eager, µs':>12}{'replayed, µs':>14}{'times faster':>14}{'losses differ by':>18}  how")
    wrong = []
    for name in credo.names():
        pair = credo.load(name)
        data = pair.data()
        losses, runners = [], []
        for compile in (False, True):
            runner = begun(pair, compile)
            runner.run(*data, steps=200)  # long enough to be captured from its first step
            runners.append(runner)
            fresh = begun(pair, compile)
            fresh.run(*data, steps=250)
            losses.append(torch.tensor(fresh.losses[:STEPS]))
        off = ((losses[1] - losses[0]).abs() / losses[0].abs()).max().item()
        eager, replayed = alternating(runners, data)
        how = runners[1].plan.compiled
        print(f"{name:<24}{eager:12,.0f}{replayed:14,.0f}{eager / replayed:14.1f}{off:18.1e}  {how}", flush=True)
        if not off < CLOSE:
            wrong.append(name)
    pair = credo.load("coin_toss")
    fit = credo.fit(pair.model, pair.guide, *pair.data(), device="cuda", progress=False)
    print(f"\ncoin toss, own stop: {len(fit.losses):,} steps, KL {credo.compare(fit)['kl'].max():.1e} nats")
    print(f"losses that do not agree to {CLOSE:g}: {', '.join(wrong) or 'none'}")
    sys.exit(bool(wrong))


def begun(pair: credo.Pair, compile: bool) -> credo.SVI:
    return credo.SVI(pair.model, pair.guide, plan="fast", device="cuda", compile=compile, progress=False)


def alternating(runners: list[credo.SVI], data: tuple) -> list[float]:
    """Median microseconds a step of each, in turns."""
    times: list[list[float]] = [[] for _ in runners]
    for _ in range(ROUNDS):
        for runner, found in zip(runners, times, strict=True):
            torch.cuda.synchronize()
            begin, steps = time.perf_counter(), 0
            while time.perf_counter() - begin < SECONDS:
                runner.run(*data, steps=200)
                steps += 200
            torch.cuda.synchronize()
            found.append((time.perf_counter() - begin) / steps * 1e6)
    return [statistics.median(found) for found in times]


if __name__ == "__main__":
    main()
