"""The public call `credo.compare_treatments`: one network under many treatments of its uncertainty, in one table."""

import copy
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

import pandas as pd
import pyro
import torch
from torch import nn

from credo.inference.runtime.defaults import choose_device
from credo.inference.runtime.generators import generators_kept, refuse_no_seed
from credo.inference.runtime.interrupts import interruptible
from credo.inference.runtime.progress import advance, progress_bar
from credo.inference.variational.caller import warning_caller
from credo.treatments.dropconnect import dropconnect
from credo.treatments.dropout import dropout, dropout_learnt
from credo.treatments.ensemble import ensemble, ensemble_of_equal_cost
from credo.treatments.laplace import laplace, laplace_last
from credo.treatments.last_layer import last_layer
from credo.treatments.likelihood import is_classes, likelihood
from credo.treatments.mean_field import mean_field
from credo.treatments.natural import natural
from credo.treatments.points import points
from credo.treatments.rows import Rows, rows_of
from credo.treatments.scores import scores
from credo.treatments.sparse import sparse
from credo.treatments.swag import swag
from credo.treatments.treatment import Budget, Treatment

# Each treatment by the name of its row, in the order of the table.
TREATMENTS: dict[str, Treatment] = {
    "points": points,
    "mean_field": mean_field,
    "natural": natural,
    "dropout": dropout,
    "dropout_learnt": dropout_learnt,
    "dropconnect": dropconnect,
    "sparse": sparse,
    "last_layer": last_layer,
    "laplace": laplace,
    "laplace_last": laplace_last,
    "ensemble": ensemble,
    "swag": swag,
}
OF_CLASSES = ("dropout_learnt", "dropconnect", "sparse")  # their pairs have no likelihood of numbers
EQUAL_COST = "ensemble, equal cost"  # is in every table: what else the same seconds could have bought
BATCH, LR = 128, 1e-3  # rows of a step, and the rate of Adam
CLASSES = ("error", "nll", "ece", "brier", "ood_auroc")
NUMBERS = ("rmse", "nll", "coverage")
COSTS = ("train_seconds", "predict_seconds", "megabytes", "words")


def compare_treatments(
    net: nn.Module,
    x: Any,
    y: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    ood: Any = None,
    treatments: Iterable[str | Treatment] | Mapping[str, str | Treatment] | None = None,
    steps: int = 2000,
    batch_size: int | None = None,
    lr: float | Mapping[str, float] = 1e-3,
    draws: int = 32,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """A table of one network under many treatments of its uncertainty, a row for each: its scores on held-out rows.

        nll = -1/N Σ_n log(1/S Σ_s p(y_n | x_n, w_s)),   the w_s drawn by the treatment

    All start from the weights of `net`, which stays as it is, and take as many steps on batches of the same size. Five
    networks that share these steps, "ensemble, equal cost", are in every table: what the same cost buys without Bayes.

    net: any torch.nn.Module, (N, ...) to (N, C) logits of classes, or to (N, 1), the mean of y, or (N, 2), with the
        noise of each row, softplus. x: shape (N, ...); whole numbers are read as floating point, unless the net takes
        them as they are, as an embedding does. y: shape (N,): integers are classes from 0, floating point numbers a
        regression, in any units; tensors, arrays or pandas. x_test, y_test: the rows that are scored; None
        holds out a fifth of the rows at random with `seed`, as `table.attrs["data"]` says.
    ood: rows unlike those of x, for classes; `ood_auroc` is the AUROC by which the entropy of the prediction tells
        them from x_test.
    treatments: names, functions of one's own, or {row: name or function}; None: all of "points" (the plain network),
        "mean_field", "natural", "dropout", "dropout_learnt", "dropconnect", "sparse", "last_layer", "laplace",
        "laplace_last", "ensemble" (five networks, each with all the steps), "swag". Three of them are for classes
        alone (dropout_learnt, dropconnect, sparse): None leaves these out of a regression.
        A function (net, x, y, budget) returns a `Trained` as credo.treatments.treatment describes.
    steps, batch_size, lr: of each treatment. batch_size: None is 128 rows, or all if they are fewer. lr: of Adam, or
        {row: rate}, 0.001 for the others. A treatment that multiplies it says so in its file (mean_field, by ten).
    draws: networks that a prediction averages, for treatments that draw. seed: of the start, the batches, the draws.
    device: where all of it runs; None: on the accelerator if there is one. progress: shows a progress bar.
    Returns a DataFrame, index `treatment`. Classes: error (share of wrong ones), nll in nats per row, ece, brier,
        ood_auroc. Numbers: rmse in the units of y, nll, and coverage, the share of y in the central 90 % of the
        prediction. Both: train_seconds (with the time to compile) and predict_seconds for all of x_test, by the clock;
        megabytes of the numbers that are kept; words, what the treatment is. `attrs`: data, budget, words.
    A treatment that raises loses its own row alone: NaN, the error among the words, and a warning. Ctrl-C returns the
        rows so far, and `attrs["interrupted"]`.
    Raises ValueError for an unknown treatment, data of other shapes, a net that does not suit y, and other settings.
    Source: Lakshminarayanan, Pritzel and Blundell 2017 for ensembles; the sources of the others are in their files.

    >>> import torch
    >>> x, y, x_test, y_test = credo.data.digits()
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 20), torch.nn.ReLU(), torch.nn.Linear(20, 10))
    >>> table = credo.compare_treatments(
    ...     net, x, y, x_test, y_test, ood=1 - x_test, treatments=["points"], steps=50, progress=False
    ... )
    >>> list(table.index), list(table.columns[:5])
    (['points', 'ensemble, equal cost'], ['error', 'nll', 'ece', 'brier', 'ood_auroc'])
    """
    chosen = _chosen(treatments)
    _refuse_settings(net, steps, batch_size, lr, draws, seed, chosen)
    place = choose_device(device)
    rows = rows_of(net, x, y, x_test, y_test, ood, seed, place)
    if treatments is None and not is_classes(rows.y):
        chosen = {name: one for name, one in chosen.items() if name not in OF_CLASSES}
    for labels, (at, of) in {"y": (rows.x, rows.y), "y_test": (rows.x_test, rows.y_test)}.items():
        likelihood(copy.deepcopy(net).to(place), at, of, labels)  # refuses what does not suit, before any training
    budget = Budget(steps, min(batch_size or BATCH, len(rows.x)), LR, seed, place)
    with suppress(Exception):  # torch imports its optimisers at the first step: no treatment's seconds
        points(net, rows.x, rows.y, budget._replace(steps=1))
    failed: list[str] = []
    results: list[pd.DataFrame] = []
    with warning_caller(failed, results):
        found: dict[str, dict[str, Any]] = {}
        ended = False
        with interruptible() as ctrl_c, progress_bar(len(chosen), progress, "treatment") as bar:
            for name, treatment in chosen.items():
                rate = lr.get(name, LR) if isinstance(lr, Mapping) else lr
                bar.set_postfix_str(name)
                try:
                    ctrl_c.raises = not ctrl_c.presses
                    row = _row(treatment, net, rows, budget._replace(lr=float(rate)), draws)
                except KeyboardInterrupt:
                    ended = True
                except Exception as error:  # of one treatment: it must not lose the others
                    row = {"words": f"{type(error).__name__}: {error}"}
                    failed.append(f"{name}: its row is NaN, since it raised {row['words']}")
                ctrl_c.raises = False
                if ended or ctrl_c.presses:  # a fit makes a result of Ctrl-C: half a treatment, which is none
                    ended = True
                    break
                found[name] = row
                advance(bar, 1, name)
        table = _table(found, is_classes(rows.y), ood is not None)
        said = f"{steps:,} steps of {budget.batch_size:,} rows on {place}, seed {seed}"
        table.attrs |= {"data": rows.words, "budget": said}
        if ended:
            table.attrs["interrupted"] = f"Ctrl-C after {len(found)} of {len(chosen)} treatments"
        results.append(table)
    return table


def _row(treatment: Treatment, net: nn.Module, rows: Rows, budget: Budget, draws: int) -> dict[str, Any]:
    """The scores and costs of one treatment. Generators and Pyro's parameters are left as they were."""
    with generators_kept(), pyro.get_param_store().scope():
        pyro.set_rng_seed(budget.seed)
        begun = time.perf_counter()
        trained = treatment(copy.deepcopy(net).to(rows.x.device), rows.x, rows.y, budget)
        _wait(rows.x.device)
        seconds = time.perf_counter() - begun
        found: dict[str, Any] = {**scores(trained, rows.x_test, rows.y_test, draws, rows.ood)}
    size = next((w.element_size() for w in net.parameters()), 4)
    return found | {"train_seconds": seconds, "megabytes": trained.numbers * size / 1e6, "words": trained.words}


def _table(found: Mapping[str, Mapping[str, Any]], classes: bool, ood: bool) -> pd.DataFrame:
    columns = [name for name in (*(CLASSES if classes else NUMBERS), *COSTS) if ood or name != "ood_auroc"]
    nothing = float("nan")
    values = {name: [row.get(name, nothing) for row in found.values()] for name in columns}
    table = pd.DataFrame(values, index=pd.Index(list(found), name="treatment", dtype=object))
    table.attrs["words"] = {name: row["words"] for name, row in found.items()}
    return table


def _wait(device: torch.device) -> None:
    """Until the accelerator has done what it was told, so that the clock can be read."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _chosen(treatments: Any) -> dict[str, Treatment]:
    """{row: treatment}, with the ensemble of equal cost as the last one."""
    if treatments is None:
        given: dict[str, Any] = dict(TREATMENTS)
    elif isinstance(treatments, Mapping):
        given = dict(treatments)
    else:
        one = isinstance(treatments, str) or callable(treatments) or not isinstance(treatments, Iterable)
        listed = [treatments] if one else list(treatments)
        given = {_row_name(one): one for one in listed}
        if len(given) < len(listed):
            raise ValueError(f"treatments: got {list(given)} more than once; pass {{row: treatment}} with two names")
    if given.pop(EQUAL_COST, EQUAL_COST) not in (EQUAL_COST, ensemble_of_equal_cost):
        raise ValueError(f"treatments: got {EQUAL_COST!r}, which credo adds itself, as a name; choose another one")
    return {name: _named(one) for name, one in given.items()} | {EQUAL_COST: ensemble_of_equal_cost}


def _row_name(treatment: Any) -> str:
    """The name of a treatment, of a function, or of the function of a partial."""
    if isinstance(treatment, str):
        return treatment
    return str(getattr(getattr(treatment, "func", treatment), "__name__", repr(treatment)))


def _named(treatment: Any) -> Treatment:
    if callable(treatment):
        found: Treatment = treatment
        return found
    if treatment in (every := {**TREATMENTS, EQUAL_COST: ensemble_of_equal_cost}):
        return every[treatment]
    close = get_close_matches(str(treatment), TREATMENTS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"treatments: got {treatment!r}, wanted some of {list(TREATMENTS)}, or functions (net, x, y, budget){hint}"
    )


def _refuse_settings(
    net: Any, steps: Any, batch_size: Any, lr: Any, draws: Any, seed: Any, chosen: Iterable[str]
) -> None:
    if not isinstance(net, nn.Module):
        raise ValueError(f"net: got {type(net).__name__}, wanted a torch.nn.Module")
    for name, value in (("steps", steps), ("batch_size", batch_size), ("draws", draws)):
        if (value is not None or name != "batch_size") and (type(value) is not int or value < 1):
            raise ValueError(f"{name}: got {value!r}, wanted a whole number, at least 1")
    if isinstance(lr, Mapping) and (unknown := sorted(set(lr) - set(chosen))):
        raise ValueError(f"lr: got rates for {unknown}, which are no rows of the table; wanted some of {list(chosen)}")
    for rate in lr.values() if isinstance(lr, Mapping) else (lr,):
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
            raise ValueError(f"lr: got {rate!r}, wanted a positive number, or {{row of the table: rate}}")
    refuse_no_seed(seed)
