"""`speed.py steps`: microseconds a step of every contender, whether all compute the same objective, and the targets.

The objectives are the same if the means of the last losses agree after the same number of steps, and if at the end,
with the code that was timed, a contender's losses agree with the -ELBO that `judged` computes at its parameters.
"""

import math
import statistics
from collections.abc import Mapping
from itertools import pairwise

import pandas as pd
from _speed_contenders import COMPILED, CREDO, ONE_A_CALL, SCAN, UPDATE, VALIDATED, Maker
from _speed_timing import notes, timed, warm
from _speed_workloads import LAST, Contender, Judged, Workload, judged

LR = 1e-3
ERRORS = 5.0  # standard errors between what agrees
DRIFT = 0.1  # of the way from the start: by how much losses after as many steps may differ, since noise leads elsewhere
SLACK = 1e-4  # relative: single precision
OVER_PYRO = {"coin": 40.0, "BLR": 40.0, "BNN": 15.0, "enum": 7.0, "graph": 7.0, "VAE": 1.7}
STEP_OVER_PYRO = {"coin": 20.0, "BLR": 20.0, "BNN": 15.0, "enum": 7.0, "VAE": 1.7}  # `svi.step` in a loop of one's own
ABOVE = 60.0  # microseconds of `svi.step` above a step of `svi.run`, at most


def steps(
    workloads: Mapping[str, Workload], makers: Mapping[str, Maker], seconds: float, rounds: int, first: int
) -> pd.DataFrame:
    """A row for each workload and contender. first: steps after which the losses are compared."""
    rows = []
    for name, workload in workloads.items():
        print(f"\n{name}", flush=True)
        contenders, early = begun(workload, makers, first)
        timings = timed(contenders, seconds, rounds)
        if odd := notes(timings):
            print(f"  CPU seconds a second, where not about 1: {odd}")
        beginning = judged(workload, workload.start)
        middle = statistics.median(mean for mean, _ in early.values())
        spread = statistics.median(error for _, error in early.values())
        for label, contender in contenders.items():
            mean, error = early[label]
            allowed = ERRORS * math.hypot(error, spread) + DRIFT * abs(beginning.loss - middle)
            row = {"workload": name, "contender": label, **timings[label]._asdict(), "ready": contender.ready()}
            row |= {"loss": mean, "alike": abs(mean - middle) <= allowed, **ending(workload, contender)}
            rows.append(row)
            _print_row(row, first)
    table = pd.DataFrame(rows)
    credo = table[table.contender == CREDO].set_index("workload")["microseconds"]
    table["ratio"] = table.microseconds / table.workload.map(credo)
    _print_table(table)
    verdict(table)
    return table


def begun(
    workload: Workload, makers: Mapping[str, Maker], first: int
) -> tuple[dict[str, Contender], dict[str, tuple[float, float]]]:
    """(the contenders after this many steps, (mean of their last losses, its standard error)), without failed ones."""
    contenders, early = {}, {}
    for label, make in makers.items():
        try:
            contender = make(workload, LR)
            early[label] = mean_and_error(contender.steps(first))
        except Exception as error:  # somebody's compiler gives up: a line, and the others go on
            print(f"  {label}: FAILED: {(str(error) or type(error).__name__).splitlines()[0][:160]}", flush=True)
            continue
        contenders[label] = contender
        if contender.note:
            print(f"  {contender.note}", flush=True)
        if not warm(contender):
            print(f"  {label}: NOT READY: what is timed is not its compiled code", flush=True)
    return contenders, early


def ending(workload: Workload, contender: Contender) -> dict:
    """own: the mean of the last losses. judged: the mean of -ELBO at the parameters before and after them."""
    before = judged(workload, contender.params())
    own, error = mean_and_error(contender.steps(LAST))
    after = judged(workload, contender.params())
    found = Judged((before.loss + after.loss) / 2, max(before.error, after.error))
    allowed = ERRORS * math.hypot(error, found.error) + abs(after.loss - before.loss) + SLACK * abs(found.loss)
    return {"own": own, "own error": error, "judged": found.loss, "judged error": found.error} | {
        "same": bool(abs(own - found.loss) <= allowed)
    }


def mean_and_error(losses: list[float]) -> tuple[float, float]:
    """The mean, and its standard error by successive differences (von Neumann 1941), which a trend leaves alone."""
    squares = [(b - a) ** 2 for a, b in pairwise(losses)]
    return statistics.fmean(losses), (statistics.fmean(squares) / 2 / len(losses)) ** 0.5 if squares else 0.0


def verdict(table: pd.DataFrame) -> None:
    """The targets of credo, each met or MISSED, except targets whose contender did not take part."""
    ratios = table.pivot(index="contender", columns="workload", values="ratio")

    def against(label: str) -> dict[str, float]:
        return ratios.loc[label].dropna().to_dict() if label in ratios.index else {}

    print("\ncredo against")
    for name, ratio in against(VALIDATED).items():
        if name in OVER_PYRO:
            _target(f"{VALIDATED}, {name}: {ratio:.1f} times faster", ratio >= OVER_PYRO[name], f">= {OVER_PYRO[name]}")
    times = table.pivot(index="workload", columns="contender", values="microseconds")
    for name, row in times.iterrows() if ONE_A_CALL in times else ():
        if VALIDATED in row and name in STEP_OVER_PYRO:
            ratio, wanted = row[VALIDATED] / row[ONE_A_CALL], STEP_OVER_PYRO[name]
            _target(f"{VALIDATED}, {name}, by {ONE_A_CALL}: {ratio:.1f} times faster", ratio >= wanted, f">= {wanted}")
        above = row[ONE_A_CALL] - row[CREDO]
        _target(f"{ONE_A_CALL}, {name}: {above:.0f} µs above {CREDO}", above <= ABOVE, f"<= {ABOVE:.0f}")
    for label in (COMPILED, UPDATE):
        for name, ratio in against(label).items():
            most = 1.05 if (label, name) == (UPDATE, "VAE") else 1.0
            _target(f"{label}, {name}: {1 / ratio:.2f} of its time", 1 / ratio <= most, f"<= {most}")
    scan = against(SCAN)
    for name, ratio in scan.items():
        _target(f"{SCAN}, {name}: {1 / ratio:.2f} of its time", 1 / ratio <= 1.1, "<= 1.1")
    if scan:
        faster = sum(ratio >= 1 for ratio in scan.values())
        _target(f"{SCAN}: not slower on {faster} of {len(scan)}", 2 * faster >= len(scan), "at least half")
    left = sorted(set(table.workload) - set(table.workload[table.contender == CREDO]))
    _target(f"workloads that {CREDO} failed on: {', '.join(left) or 'none'}", not left, "none")
    wrong = table[~(table.alike & table.same)]
    names = ", ".join(f"{row.contender} on {row.workload}" for row in wrong.itertuples())
    _target(f"losses that do not agree: {names or 'none'}", wrong.empty, "none")
    late = table[~table.ready]
    names = ", ".join(f"{row.contender} on {row.workload}" for row in late.itertuples())
    _target(f"timed before its compiled code was in use: {names or 'nobody'}", late.empty, "nobody")


def _target(line: str, met: bool, wanted: str) -> None:
    print(f"{'met   ' if met else 'MISSED'}  {line}, wanted {wanted}", flush=True)


def _print_row(row: dict, first: int) -> None:
    here, there = ("" if row[key] else " DIFFERS" for key in ("alike", "same"))
    print(
        f"  {row['contender']:<16}{row['microseconds']:9.1f} µs ({row['low']:.1f} to {row['high']:.1f})   "
        f"after {first} steps {row['loss']:,.2f}{here}; at the end its losses {row['own']:,.2f} ± "
        f"{row['own error']:.2f}, judged {row['judged']:,.2f} ± {row['judged error']:.2f}{there}",
        flush=True,
    )


def _print_table(table: pd.DataFrame) -> None:
    print("\nmedian microseconds a step (times credo's)")
    names = list(dict.fromkeys(table.workload))
    print(" " * 16 + "".join(f"{name:>18}" for name in names))
    cells = table.set_index(["contender", "workload"])
    for label in dict.fromkeys(table.contender):
        line = f"{label:<16}"
        for name in names:
            here = (label, name) in cells.index
            cell = f"{cells.microseconds[label, name]:.1f} ({cells.ratio[label, name]:.2f})" if here else "-"
            line += f"{cell:>18}"
        print(line, flush=True)
