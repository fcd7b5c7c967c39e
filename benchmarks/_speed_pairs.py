"""The pairs that come with credo, unchanged under Pyro and under credo: the second table of `speed.py steps`.

The data has few rows, so that Python is most of the cost of a step.
"""

import copy
import math
import statistics
from collections.abc import Iterable

import pandas as pd
import torch
from _speed_contenders import CREDO, PYRO, VALIDATED
from _speed_pyro import credo_svi, pyro_svi
from _speed_steps import DRIFT, ERRORS, LR, mean_and_error
from _speed_timing import notes, timed, warm
from _speed_workloads import Contender

import credo

ROWS = 100
# Pyro's class that runs the pair unchanged. The improper prior of bnn_sparse has nothing but its KL. The model of
# stochastic_depth_resnet expands its depth over the rows, which a depth with all its values at once does not allow.
ELBOS = {
    "coin_toss": "Trace",
    "linear_regression": "Trace",
    "bnn_classifier": "Trace",
    "bnn_dropout": "Trace",
    "bnn_sparse": "TraceMeanField",
    "vae": "Trace",
    "stochastic_depth_resnet": "TraceGraph",
}


def pairs(names: Iterable[str], seconds: float, rounds: int, first: int) -> pd.DataFrame:
    """A row for each pair and contender. first: steps after which the losses are compared."""
    rows = []
    for name in names:
        contenders = begun(name)
        early = {label: mean_and_error(contender.steps(first)) for label, contender in contenders.items()}
        start = statistics.fmean(begun(name)[PYRO].steps(2))
        for contender in contenders.values():
            warm(contender)
        timings = timed(contenders, seconds, rounds)
        middle, error = early[PYRO]
        print(f"\n{name}, {ELBOS[name]}_ELBO" + (f"; CPU seconds a second: {odd}" if (odd := notes(timings)) else ""))
        for label, timing in timings.items():
            mean, own = early[label]
            alike = abs(mean - middle) <= ERRORS * math.hypot(own, error) + DRIFT * abs(start - middle)
            ratio = timing.microseconds / timings[CREDO].microseconds
            rows.append({"workload": name, "contender": label, **timing._asdict(), "loss": mean} | {"ratio": ratio})
            rows[-1] |= {"alike": alike, "ready": contenders[label].ready()}
            marks = ("" if alike else " DIFFERS") + ("" if contenders[label].ready() else "; NOT READY")
            print(
                f"  {label:<16}{timing.microseconds:9.1f} µs ({timing.low:.1f} to {timing.high:.1f}), {ratio:.2f} times"
                f" that of credo; after {first} steps {mean:,.2f} ± {own:.2f}{marks}",
                flush=True,
            )
    return pd.DataFrame(rows)


def begun(name: str) -> dict[str, Contender]:
    """Each on a copy of the pair's networks."""
    pair, found = credo.load(name), {}
    for label in (VALIDATED, PYRO, CREDO):
        data = few(name)
        if label == CREDO:
            found[label] = credo_svi(pair.model, pair.guide, data, None, LR)
        else:
            found[label] = pyro_svi(pair.model, pair.guide, data, ELBOS[name], LR, validated=label == VALIDATED)
    return found


def few(name: str) -> tuple:
    """The first rows of the pair's data, and its networks."""
    pair = credo.load(name)
    assert pair.data is not None
    rows = 1000 if name == "coin_toss" else ROWS
    data = tuple(value[:rows] if isinstance(value, torch.Tensor) else value for value in pair.data())
    return copy.deepcopy(data)
