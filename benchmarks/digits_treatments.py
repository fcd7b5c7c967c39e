"""Every treatment of `credo.compare_treatments` on scikit-learn's digits, over several seeds, with standard errors.

    python digits_treatments.py [--seeds 5] [--steps 2000] [--validation] [TREATMENT ...]

The network of `bnn_classifier` (64-100-10, ReLU), the defaults of the call: 2,000 steps of 128 rows, 32 draws. A seed
is another start of the weights, other batches and other draws; the rows are the same. 1,437 rows to learn from, 360 of
test. --validation: learns from 1,150 of the 1,437 and scores the 287 others: what is chosen must be chosen there.
Beside the treatments of the call: "tuned", and mean field under other priors, "mean_field 30.0", "mean_field 100.0",
"mean_field learnt", "mean_field ard"; "mean_field" itself has the pair's, 10.

ECE in bins is never zero: `ece if true` is its mean where the labels are drawn from the predictions themselves, which
then are calibrated; only what is above it is miscalibration. `confidence` less `accuracy` says which way: below zero
the prediction is less sure than it should be. A difference is between a treatment and the plain network of its seed,
so its standard error is that of the pairs. The table is printed anew after every seed. Size: one CPU core; a seed of
points, mean_field, swag and laplace_last takes half a minute of it, all treatments some minutes.
"""

import argparse
import functools
import math
import time
from typing import Any

import pandas as pd
import torch
from torch import nn

import credo
from credo.metrics import classification
from credo.treatments.compare import BATCH, EQUAL_COST, LR, TREATMENTS
from credo.treatments.ensemble import ensemble_of_equal_cost
from credo.treatments.mean_field import mean_field
from credo.treatments.scores import probabilities
from credo.treatments.treatment import Budget, Trained, Treatment
from credo.treatments.tuned import tuned

DRAWS, REPEATS = 32, 200
SCORES = ("error", "nll", "ece", "brier")
PLAIN = "points"
PRIORS = {f"mean_field {sd}": functools.partial(mean_field, prior_sd=sd) for sd in (30.0, 100.0, "learnt", "ard")}
ROWS: dict[str, Treatment] = {**TREATMENTS, **PRIORS, "tuned": tuned}  # the last ones only where they are named


def network(seed: int) -> nn.Module:
    """64-100-10 at the starting weights of a seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))


def rows(validation: bool) -> tuple[torch.Tensor, ...]:
    """(x, y, x_test, y_test). validation: the test rows stay unseen, and a fifth of the others takes their place."""
    x, y, x_test, y_test = credo.data.digits()
    if not validation:
        return x, y, x_test, y_test
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    held, rest = order[: len(x) // 5], order[len(x) // 5 :]
    return x[rest], y[rest], x[held], y[held]


def ece_if_true(probs: torch.Tensor, seed: int, repeats: int = REPEATS) -> float:
    """The mean ECE of labels drawn from the predictions themselves. probs: shape (N, C)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(probs, repeats, replacement=True, generator=generator)
    return sum(classification(probs, y)["ece"] for y in labels.T) / repeats


def kept(treatment: Treatment, name: str, found: dict[str, Trained]) -> Treatment:
    """The treatment, which puts what it returns into `found` under its name."""

    def keeps(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget) -> Trained:
        began = time.perf_counter()
        found[name] = treatment(net, x, y, budget)
        print(f"  seed {budget.seed}, {name}: {time.perf_counter() - began:.1f} s; {found[name].words}", flush=True)
        return found[name]

    return keeps


def scored(treatments: dict[str, Treatment], seed: int, steps: int, data: tuple[torch.Tensor, ...]) -> pd.DataFrame:
    """The table of one seed, with `ece if true` and `confidence - accuracy` beside the scores."""
    found: dict[str, Trained] = {}
    given = {name: kept(one, name, found) for name, one in treatments.items()}
    table = credo.compare_treatments(
        network(seed), *data, treatments=given, steps=steps, draws=DRAWS, seed=seed, device="cpu", progress=False
    )
    if EQUAL_COST in table.index:  # which the call adds itself
        budget = Budget(steps, min(BATCH, len(data[0])), LR, seed, torch.device("cpu"))
        found[EQUAL_COST] = ensemble_of_equal_cost(network(seed), data[0], data[1], budget)
    for name, trained in found.items():
        probs = probabilities(trained, data[2], DRAWS)
        sure = probs.max(-1).values.mean().item() - (1 - table.loc[name, "error"])
        table.loc[name, ["ece if true", "confidence - accuracy"]] = ece_if_true(probs, seed), sure
    return table


def summary(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Means over seeds with standard errors, and differences from the plain network with those of the pairs."""
    columns: dict[str, Any] = {}
    together = pd.concat(tables, keys=range(len(tables)), names=["seed"])
    for name in (*SCORES, "ece if true", "confidence - accuracy"):
        columns[name] = in_words(together[name])
    plain = together.xs(PLAIN, level="treatment")
    for name in SCORES:
        if len(plain):
            columns[f"{name} - plain"] = in_words(together[name] - plain[name].reindex(together.index, level="seed"))
    columns["seconds"] = together["train_seconds"].groupby("treatment").mean().round(1)
    return pd.DataFrame(columns).reindex(tables[0].index)


def in_words(values: pd.Series) -> pd.Series:
    """`mean (standard error)` over seeds of each treatment."""
    groups = values.groupby("treatment")
    mean, error = groups.mean(), groups.std() / groups.count().map(math.sqrt)
    return mean.map("{:.4f}".format) + error.map(" ({:.4f})".format)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("treatments", nargs="*", help="rows of the table beside the plain network; none: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--validation", action="store_true", help="score training rows that are held out")
    given = parser.parse_args()
    if unknown := [name for name in given.treatments if name not in {*ROWS, EQUAL_COST}]:
        parser.error(f"treatments: got {', '.join(unknown)}, wanted some of {', '.join(ROWS)}")
    if min(given.seeds, given.steps) < 1:
        parser.error(f"got --seeds {given.seeds} --steps {given.steps}, wanted at least 1 of each")
    names = [PLAIN, *(name for name in given.treatments or TREATMENTS if name not in (PLAIN, EQUAL_COST))]
    chosen = {name: ROWS[name] for name in names}
    data = rows(given.validation)
    where = "training rows held out" if given.validation else "test rows"
    tables = []
    for seed in range(given.seeds):
        tables.append(scored(chosen, seed, given.steps, data))
        print(tables[-1].drop(columns="words").round(4).to_string(), flush=True)
        said = f"{len(data[1]):,} rows to learn from, {len(data[3])} {where}, {seed + 1} seeds: mean (standard error)"
        print(f"\n{said}\n{summary(tables).to_string()}\n", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with pd.option_context("display.width", 250, "display.max_columns", 30):
        main()
