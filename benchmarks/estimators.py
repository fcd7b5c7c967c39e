"""Is credo's choice of gradient estimators as good as the best unbiased choice by hand in Pyro?

    python benchmarks/estimators.py [--quick] [--pairs coin,belief] [--out table.csv]       or: make bench-estimators

variance × time of one gradient of -ELBO: the trace of its covariance in unconstrained space, times the median CPU time.
credo has its defaults. The choice by hand is the best *unbiased* one among Trace, TraceGraph (with and without the
moving-average baseline), TraceEnum (parallel, sequential) and TraceMeanField, each with 1 to 32 particles. Both run at
three checkpoints: the start, 10 % of training, converged. Targets: geometric mean of (credo / best hand) <= 1, every
cell <= 1.1, planning <= max(5 s, 5 % of training).

Unbiased: z = (mean - exact) / standard error in each coordinate; rms z <= 1.2 (where few coordinates are independent,
its quantile at 1e-4 if that is more) and max |z| within Bonferroni at 1e-4. The pairs: `_estimator_pairs.py`.
"""

import argparse
import math
import platform
import time
from typing import NamedTuple

import pandas as pd
import pyro
import torch
from _estimator_contenders import (
    PARTICLES,
    Contender,
    Point,
    by_credo,
    by_pyro,
    choices,
    interleaved,
    meet,
    plan_in_short,
    trained,
)
from _estimator_pairs import Pair, all_pairs
from _estimator_references import Reference, confirmed, exact_gradient

import credo

CHECKPOINTS = ("start", "10 %", "converged")
SEEDS = {"start": 1, "10 %": 2, "converged": 3}


class Counts(NamedTuple):
    """How many gradients. rounds: (gradients, factor): a contender worse than the best by this factor then leaves."""

    bias: int
    rounds: tuple[tuple[int, float], ...]
    full: int
    reference: int
    steps: int  # of training, to the converged checkpoint
    seconds: float  # of CPU that one choice may take in the test of bias


FULL = Counts(400, ((10, 10.0), (100, 3.0), (500, 1.5)), 2000, 4000, 2000, 4.0)
QUICK = Counts(100, ((10, 6.0), (30, 2.5)), 200, 600, 400, 0.4)


def reference_of(pair: Pair, point: Point, constraints: dict, counts: Counts) -> Reference:
    """The exact gradient, or the mean of a long run of the pair's trainer with 32 particles."""
    exact = exact_gradient(pair, point, constraints)
    if exact is not None:
        return Reference(exact, torch.zeros_like(exact))
    run = by_pyro(pair, pair.trainer, PARTICLES[-1], point)
    interleaved([run], counts.reference)
    g = torch.stack(run.gradients).double()
    return Reference(g.mean(0), g.std(0) / len(g) ** 0.5)


def race(
    hands: list[Contender], credos: list[Contender], reference: Reference, counts: Counts
) -> tuple[list[Contender], int]:
    """(the unbiased choices by hand that reached the end, how many left earlier); credo runs with them throughout."""
    began = len(hands)
    for n, factor in counts.rounds:
        interleaved(hands + credos, n, block=10)
        hands = [c for c in hands if not c.failed]
        best = min((c.product for c in hands), default=math.inf)
        hands = [c for c in hands if c.product <= factor * best]
    for c in hands + credos:
        c.times.clear()  # only times that were taken in alternation count
    interleaved(hands + credos, counts.full)
    left = began - len(hands)
    return sorted(_unbiased(hands, reference), key=lambda c: c.product), left


def _unbiased(hands: list[Contender], reference: Reference) -> list[Contender]:
    """The contenders that ran and are unbiased; prints the others."""
    kept = []
    for c in hands:
        looked = None if c.failed else confirmed(c, reference)
        if looked is None or looked.found:
            z = "" if looked is None else f"biased, rms z {looked.rms:.2f}, max |z| {looked.most:.1f}"
            _say(f"    struck off: {c.label} × {c.particles}: {c.failed or z}")
        else:
            kept.append(c)
    return kept


def cell(pair: Pair, runner: credo.SVI, checkpoint: str, point: Point, constraints: dict, counts: Counts) -> dict:
    """One line of the table; the runner plans at the point first."""
    row: dict = {"pair": pair.name, "checkpoint": checkpoint}
    torch.manual_seed(SEEDS[checkpoint])
    reference = reference_of(pair, point, constraints, counts)
    start = time.process_time()
    credos = []
    try:
        meet(runner, pair, point)
        row["plan"] = plan_in_short(runner)
        credos = [by_credo(runner, pair)]
    except Exception as error:
        row["failed"] = str(error).splitlines()[0]
    row["planning s"] = time.process_time() - start

    middle = [by_pyro(pair, label, 8, point) for label in choices(pair)]
    interleaved(middle, counts.bias, counts.seconds)
    hands = []
    for c in _unbiased(middle, reference):
        hands += [c if n == c.particles else by_pyro(pair, c.label, n, point) for n in PARTICLES]
    honest, left = race(hands, credos, reference, counts)
    if honest:
        best = honest[0]
        row |= {"hand": f"{best.label} × {best.particles}", "hand variance": best.variance}
        row |= {"hand ms": 1000 * best.seconds, "hand product": best.product}
    for c in credos:
        if c.failed:
            row["failed"] = c.failed
            continue
        looked = confirmed(c, reference)
        row |= {"variance": c.variance, "ms": 1000 * c.seconds, "product": c.product, "rms z": looked.rms}
        row |= {"max z": looked.most, "biased": looked.found}
        equal = [h for h in hands if h.particles == c.particles and h.times]
        if equal:
            fastest = min(equal, key=lambda h: h.seconds)
            row |= {"Pyro ms, as many particles": 1000 * fastest.seconds, "Pyro choice": fastest.label}
        if honest:
            row["ratio"] = c.product / best.product
    _report(row, left)
    return row


def _report(row: dict, left: int) -> None:
    _say(f"  {row['checkpoint']:<10} best hand: {row.get('hand', 'none')}, ({left} worse ones left early)")
    if "hand" in row:
        _say(f"    {'hand':<6} {row['hand variance']:10.3g} × {row['hand ms']:6.2f} ms = {row['hand product']:10.3g}")
    if "failed" in row:
        _say(f"    credo  FAILED: {row['failed'][:160]}")
        return
    _say(
        f"    {'credo':<6} {row['variance']:10.3g} × {row['ms']:6.2f} ms = {row['product']:10.3g}   ratio "
        f"{row.get('ratio', math.nan):.3g}, rms z {row['rms z']:.2f}, max |z| {row['max z']:.1f}"
        f"{' BIASED' if row['biased'] else ''}; Pyro with as many particles "
        f"{row.get('Pyro ms, as many particles', math.nan):.2f} ms ({row.get('Pyro choice', 'none')})"
    )
    _say(f"           {row['plan']}; planned in {row['planning s']:.1f} s")


def verdict(table: pd.DataFrame) -> None:
    """The three criteria. A cell that failed or is biased misses its criterion."""
    ratios = table.get("ratio", pd.Series(math.nan, table.index))
    cells, biased = ratios.dropna(), table.get("biased", pd.Series(False, table.index)) == True  # noqa: E712  # NaN: failed
    lost = int(ratios.isna().sum()) + int((biased & ratios.notna()).sum())
    mean = math.exp(cells.clip(1e-300).map(math.log).mean()) if len(cells) else math.nan
    floor = math.exp(cells.clip(0.1).map(math.log).mean()) if len(cells) else math.nan
    worst = cells.idxmax() if len(cells) else None
    planning = table.groupby("pair", sort=False).agg({"planning s": "sum", "training s": "first"})
    over = planning["planning s"] / planning["training s"].mul(0.05).clip(lower=5.0)
    _say(f"\n{len(cells)} cells of {len(table)}, {lost} failed or biased")
    _say(f"{_passed(mean <= 1 and not lost)}  geometric mean {mean:.3g} (no ratio below 0.1: {floor:.3g}), wanted <= 1")
    name = f"{table.pair[worst]}, {table.checkpoint[worst]}" if worst is not None else "none"
    _say(f"{_passed(bool((cells <= 1.1).all()) and not lost)}  worst cell {cells.max():.3g} ({name}), wanted <= 1.1;")
    _say(f"        {int((cells > 1.1).sum())} above")
    slow = over.idxmax()
    _say(
        f"{_passed(bool((over <= 1).all()))}  planning: at most {planning['planning s'].max():.1f} s in all of a pair; "
        f"worst {slow}, {planning['planning s'][slow]:.1f} s for {planning['training s'][slow]:.0f} s of training, "
        f"wanted <= max(5 s, 5 %)"
    )


def _passed(well: bool) -> str:
    return "PASS  " if well else "MISSED"


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", help="names with commas between them; all of them if not given")
    parser.add_argument("--quick", action="store_true", help="a tenth of the gradients: minutes, roughly right")
    parser.add_argument("--out", help="a .csv file for the table")
    options = parser.parse_args()
    pairs = {pair.name: pair for pair in all_pairs()}
    names = options.pairs.split(",") if options.pairs else list(pairs)
    if unknown := [name for name in names if name not in pairs]:
        parser.error(f"--pairs: {unknown[0]!r} is none of {', '.join(pairs)}")
    counts = QUICK if options.quick else FULL
    pyro.enable_validation(False)
    torch.set_num_threads(1)
    _say(
        f"torch {torch.__version__}, Pyro {pyro.__version__}, Python {platform.python_version()}, {platform.machine()}"
    )
    _say(f"{counts.full} gradients; left early: " + ", ".join(f"{f:g} times the best at {n}" for n, f in counts.rounds))
    rows = []
    for name in names:
        pyro.set_rng_seed(0)
        points, constraints, seconds = trained(pairs[name], counts.steps)
        _say(f"\n{name}: {sum(v.numel() for v in points[0].values())} parameters, trained in {seconds:.1f} s")
        runner = credo.SVI(pairs[name].model, pairs[name].guide, progress=False, device="cpu")
        for checkpoint, point in zip(CHECKPOINTS, points, strict=True):
            rows.append(cell(pairs[name], runner, checkpoint, point, constraints, counts) | {"training s": seconds})
    table = pd.DataFrame(rows)
    if options.out:
        table.to_csv(options.out, index=False)
    verdict(table)


if __name__ == "__main__":
    main()
