"""Part `mnist` of papers.py: an MLP and LeNet-5 under every treatment on MNIST, beside published rows.

    mnist/mlp400/TREATMENT           784-400-400-10, ReLU
    mnist/lenet5/TREATMENT           LeNet-5 (20 and 50 filters)

`_papers_fashion.py` runs the same on Fashion-MNIST. Every treatment learns from 55,000 of the 60,000 training rows: 20
epochs, batches of 128; LeNet-5 on a CPU from 2,000 rows in 200 steps, which show that the program runs and no more. The
other 5,000 training rows choose among the variants of mean field: the tables mark the one with the lowest NLL there.
Test rows choose nothing. Strangers are the test rows of the other data set: `auroc` is how well the entropy of the
prediction tells them from the test rows.
"""

import importlib
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
import torch
from _papers_task import Task, lenet5
from torch import nn

import credo
from credo.treatments.mean_field import numbers_of, predictive
from credo.treatments.natural import falling
from credo.treatments.scores import scores
from credo.treatments.treatment import Budget, Trained, Treatment

BATCH, EPOCHS, VALIDATION, DRAWS, LR = 128, 20, 5000, 50, 1e-3
CPU_ROWS, CPU_STEPS = 2000, 200
START, MEAN_FIELD_LR = 0.01, 5e-3  # sd of every weight before the first step; of Adam, falls to a hundredth by a cosine
VARIANTS: dict[str, dict[str, Any]] = {  # of mean field
    "mean-field-10": {"prior_sd": 10.0},
    "mean-field-1": {"prior_sd": 1.0},
    "mean-field-learnt": {"prior_sd": "learnt"},
    "mean-field-ard": {"prior_sd": "ard"},
    "mean-field-cold": {"prior_sd": "learnt", "temperature": 0.1},
}
FILES = {  # treatments of the package: {task: (file, function)}
    "points": ("points", "points"),
    "mean-field": ("mean_field", "mean_field"),
    "natural": ("natural", "natural"),
    "natural-quarter": ("natural", "natural"),  # a quarter of the steps
    "dropout": ("dropout", "dropout"),
    "dropout-learnt": ("dropout", "dropout_learnt"),
    "dropconnect": ("dropconnect", "dropconnect"),
    "sparse": ("sparse", "sparse"),
    "last-layer": ("last_layer", "last_layer"),
    "laplace": ("laplace", "laplace"),
    "laplace-last": ("laplace", "laplace_last"),
    "swag": ("swag", "swag"),
    "ensemble": ("ensemble", "ensemble"),
    "ensemble-equal-cost": ("ensemble", "ensemble_of_equal_cost"),
}
Numbers = Mapping[str, Mapping[str, tuple[float, float | None]]]  # {net: {treatment: (error in %, NLL)}}
NETS = ("mlp400", "lenet5")
OTHER = {"mnist": "fashion", "fashion": "mnist"}  # where the strangers come from
# Error in %, NLL in nats a row. From tables of others, read in ../shared/notes; other epochs, and all 60,000 rows.
PUBLISHED: Numbers = {
    "mlp400": {
        "MAP, 2 layers of 1200": (1.58, 0.0573),
        "ensemble of MAP, 1200": (1.53, 0.0497),
        "mean field, 1200": (2.60, 0.1100),
        "local reparametrisation, 1200": (2.61, 0.1086),
        "MC dropout, 1200": (1.37, 0.0436),
        "SGLD, 1200": (1.76, 0.0828),
    },
    "lenet5": {"VI": (1.5, 0.048), "refined VI": (1.0, 0.034), "plain": (0.9, 0.037), "ensemble of 10": (0.6, 0.016)},
}
WANTED: Numbers = {  # {net: {treatment: (error, NLL)}}, at most; None: nothing is wanted
    "mlp400": {"mean field": (1.6, 0.06), "dropout": (1.4, None), "ensemble": (1.4, None)},
    "lenet5": {"mean field": (1.0, 0.034)},
}


def tasks() -> list[Task]:
    return tasks_of("mnist")


def tasks_of(images: str) -> list[Task]:
    """Every treatment of every network on `mnist` or `fashion`."""
    names = [*FILES, *VARIANTS]
    return [Task(f"{images}/{net}/{name}", run, (images, net, name)) for net in NETS for name in names]


def run(images: str, net_name: str, name: str, rows: int | None = None, steps: int | None = None) -> dict[str, Any]:
    """One treatment of one network. rows, steps: for a rehearsal; None: as the machine allows."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    small = device.type == "cpu" and net_name == "lenet5"
    rows = rows or (CPU_ROWS if small else None)
    split = data(images, net_name == "lenet5", rows, device)
    steps = steps or (CPU_STEPS if small else EPOCHS * len(split["y"]) // BATCH)
    steps = steps // 4 if name.endswith("-quarter") else steps
    budget = Budget(steps, BATCH, LR, device=device)
    net = network(net_name).to(device)
    began = time.perf_counter()
    trained = treatment(name)(net, split["x"], split["y"], budget)
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    # Not under no_grad: Laplace linearises the network, so its prediction takes derivatives.
    found = scores(trained, split["x_test"], split["y_test"], DRAWS, split["strangers"])
    chosen = scores(trained, split["x_held"], split["y_held"], DRAWS)
    return {
        **{"error": 100 * found["error"], "nll": found["nll"], "ece": found["ece"], "brier": found["brier"]},
        **{"auroc": found["ood_auroc"], "held nll": chosen["nll"], "held error": 100 * chosen["error"]},
        **{"steps": steps, "epochs": round(steps * BATCH / len(split["y"]), 1), "rows": len(split["y"])},
        **{"train seconds": round(seconds, 1), "predict seconds": round(found["predict_seconds"], 2)},
        **{"megabytes": 4 * trained.numbers / 1e6, "words": trained.words},
    }


def treatment(name: str) -> Treatment:
    if name in VARIANTS:
        return partial(mean_field, **VARIANTS[name])
    file, function = FILES[name]
    found: Treatment = getattr(importlib.import_module(f"credo.treatments.{file}"), function)
    return found


def mean_field(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget, **model: Any) -> Trained:
    """An independent normal for each weight that starts narrow; the KL weighs in over the first third of the steps."""
    pair = credo.load("bnn_classifier")
    fit = credo.fit(
        *(partial(pair.model, **model), partial(pair.guide, sd=START), net, x, y),
        **{"steps": budget.steps, "lr": partial(falling, MEAN_FIELD_LR, budget.steps), "kl_warmup": budget.steps // 3},
        **{"batch_size": budget.batch_size, "particles": 1, "plan": "fast", "progress": False},
        **{"seed": budget.seed, "device": budget.device},
    )
    sds = {k.removesuffix(".prior_sd"): v.mean().item() for k, v in fit.params.items() if k.endswith(".prior_sd")}
    words = f"mean field, {model}; loss {fit.final_loss:,.0f} nats"
    return Trained(predictive(fit, net), numbers_of(fit), f"{words}; mean prior sds {sds}" if sds else words)


def network(name: str) -> nn.Module:
    """The same starting weights for every treatment (seed 0)."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        if name == "mlp400":
            return nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 10))
        return lenet5()


def data(name: str, square: bool, rows: int | None, device: torch.device) -> dict[str, torch.Tensor]:
    """Rows to learn from, held-out training rows, test rows, and strangers. rows: of each at most; None: all."""
    shape: Any = "image" if square else "flat"
    sets = {"mnist": credo.data.mnist, "fashion": credo.data.fashion_mnist}
    own, other = sets[name](shape), sets[OTHER[name]](shape)
    order = torch.randperm(len(own.x), generator=torch.Generator().manual_seed(0))
    learnt, held = order[:-VALIDATION][:rows], order[-VALIDATION:][:rows]
    found = {"x": own.x[learnt], "y": own.y[learnt], "x_held": own.x[held], "y_held": own.y[held]}
    found |= {"x_test": own.x_test[:rows], "y_test": own.y_test[:rows], "strangers": other.x_test[:rows]}
    return {name: part.to(device) for name, part in found.items()}


def tables(found: Mapping[str, Mapping[str, Any]]) -> None:
    tables_of("mnist", found, PUBLISHED, WANTED)


def tables_of(images: str, found: Mapping[str, Mapping[str, Any]], published: Numbers, wished: Numbers) -> None:
    """A table for each network, then the published rows and what is wanted. found: {name of a task: its result}."""
    for net in NETS:
        rows = {name.rpartition("/")[2]: row for name, row in found.items() if name.startswith(f"{images}/{net}/")}
        if not rows:
            continue
        one = next(iter(rows.values()))
        machines = ", ".join(sorted({row["machine"] for row in rows.values()}))
        print(f"\n{images} {net}: {one['rows']:,} training rows, batches of {BATCH}, {DRAWS} draws, on {machines}")
        columns = ["error", "nll", "ece", "brier", "auroc", "held nll", "epochs", "train seconds", "megabytes"]
        columns += ["rows", "machine"] if len({(row["machine"], row["rows"]) for row in rows.values()}) > 1 else []
        table = pd.DataFrame.from_dict({name: {c: row[c] for c in columns} for name, row in rows.items()}, "index")
        digits = {"nll": 4, "ece": 4, "brier": 4, "auroc": 4, "held nll": 4}
        print(table.round({c: digits.get(c, 2) for c in columns}).to_string())
        print(f"  best variant of mean field by the held-out training rows: {best_of(rows) or 'none was run'}")
        if few := [name for name, row in rows.items() if row["rows"] <= CPU_ROWS]:
            which = "" if len(few) == len(rows) else f" of {', '.join(few)}"
            print(f"(a rehearsal{which}: too few rows and steps for the comparison below)")
        for name, (error, nll) in published.get(net, {}).items():
            print(f"  published: {name:<32} {error:5.2f} % {nll:7.4f}")
        for name, wanted in wished.get(net, {}).items():
            print(f"  wanted: {name}: {met(rows, name, *wanted)}")
        if both := [rows[name] for name in ("natural-quarter", best_of(rows)) if name in rows]:
            if len(both) == 2:
                print(f"  wanted: natural gradient as good in a quarter of the steps: {as_good(*both)}")


def best_of(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The variant of mean field with the lowest NLL on held-out training rows, at temperature 1; '' without any."""
    names = [n for n in (*VARIANTS, "mean-field") if n in rows and "temperature" not in VARIANTS.get(n, {})]
    return min(names, key=lambda name: rows[name]["held nll"], default="")


def met(rows: Mapping[str, Mapping[str, Any]], name: str, error: float, nll: float | None) -> str:
    chosen = best_of(rows) if name == "mean field" else name
    limit = f"error <= {error} %" + ("" if nll is None else f", NLL <= {nll}")
    if chosen not in rows:
        return f"{limit}: not run"
    row = rows[chosen]
    good = row["error"] <= error and (nll is None or row["nll"] <= nll)
    return f"{limit}: {'met' if good else 'MISSED'} by {chosen} ({row['error']:.2f} %, {row['nll']:.4f})"


def as_good(quarter: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    good = quarter["held nll"] <= whole["held nll"]
    words = f"held-out NLL {quarter['held nll']:.4f} against {whole['held nll']:.4f}"
    return f"{'met' if good else 'MISSED'} ({words})"
