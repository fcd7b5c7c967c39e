"""Mean field whose prior, start, KL weight and rates are chosen by the NLL of validation rows, and said.

    w ~ N(0, s²),   weight of log q - log p(w) at step t: min(1, t / T),   rate of a parameter by its name

One question after the other: each answer is tried with the best answers before it, and replaces them if its NLL is
lower by more than a standard error of the difference. The ELBO does not answer them: for independent normals the bound
is loose, and with few rows it is largest where the posterior is wider than the data want. On 1,150 rows of the digits
the prior sds of each layer that maximise it have an NLL of .157 (.013) nats a row, the pair's own .120 (.012) (2 seeds,
8,000 steps, `benchmarks/digits_treatments.py --validation --steps 8000`).
"""

from typing import Any, NamedTuple

import torch
from torch import nn

from credo.models import bnn_classifier, bnn_regression
from credo.treatments.chosen import compared, parted, ranked, said_of, said_of_all
from credo.treatments.likelihood import is_classes
from credo.treatments.mean_field import faster, mean_field
from credo.treatments.treatment import Budget, Trained, Treatment
from credo.treatments.warm import warm


class Answers(NamedTuple):
    """How mean field is fitted: the answers to all questions."""

    prior: float | str = 1.0  # the sd in units of the pair's, or a word of `credo.nn.bayesian`
    warm: float = 0.0  # share of the steps for the plain network, at whose weights the means start
    kl: float | None = None  # share of the steps over which the weight of the KL rises; None: as `credo.fit` does
    sds: float = 1.0  # rate of the sds, in units of that of the means
    last: float = 1.0  # rate of the last layer, in units of that of the others


QUESTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "prior": {
        "3 times as wide": {"prior": 3.0},
        "10 times as wide": {"prior": 10.0},
        "learnt for each weight": {"prior": "ard"},
    },
    "start": {"plain network": {"warm": 0.25}},
    "KL": {"whole at once": {"kl": 0.0}, "rising over half of the steps": {"kl": 0.5}},
    "rates": {"sds 3 times as fast": {"sds": 3.0}, "last layer 3 times as fast": {"last": 3.0}},
}


def tuned(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget) -> Trained:
    """Mean field with the answers that a fifth of the rows prefer, then trained on all rows.

    x: shape (N, ...). y: shape (N,), classes as integers or numbers as floating point: the rows to learn from, of which
    a fifth are validation rows; test rows are none of its business. The search takes nine fits with all steps of the
    budget on the other rows, eight for a network of one layer. One validation row chooses nothing: it has no standard
    error. The words have every answer with its NLL in nats a row and the standard error.
    Raises ValueError for fewer than five rows.

    >>> import torch
    >>> from credo.treatments.treatment import Budget
    >>> x, y, *_ = credo.data.digits()
    >>> words = tuned(torch.nn.Linear(64, 10), x[:200], y[:200], Budget(20, 64, 1e-2)).words
    >>> words.partition(": ")[0]
    'chosen by the NLL of 40 validation rows, in nats (standard error)'
    """
    rows = parted(x, y, budget.seed)
    best, name = Answers(), "as the pair"
    (losses,) = compared({name: treatment_of(best)}, net, rows, budget).values()
    said = [f"{name} {said_of(losses)}"]
    for question, changes in QUESTIONS.items():
        given = {one: best._replace(**change) for one, change in changes.items()}
        if not last_layer(net):
            given = {one: answers for one, answers in given.items() if answers.last == best.last}
        try:
            found = compared({one: treatment_of(answers) for one, answers in given.items()}, net, rows, budget)
        except ValueError as error:  # all diverged
            said.append(f"{question}: {error}")
            continue
        said.append(f"{question}: {said_of_all(found)}")
        first = ranked(found)[0]
        if is_lower(found[first], losses):
            best, losses, name = given[first], found[first], first if name == "as the pair" else f"{name}, {first}"
    trained = treatment_of(best)(net, x, y, budget)
    words = (
        f"chosen by the NLL of {len(losses):,} validation rows, in nats (standard error): {name} ({'; '.join(said)})"
    )
    return trained._replace(words=f"{words}; {trained.words}")


def is_lower(losses: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether the mean of losses is lower than before by more than its standard error. Both: shape (N,), of rows.

    One row has no standard error: no finite difference is more than it.
    """
    gain = before - losses
    if not bool(gain.isfinite().all()):
        return bool(losses.isfinite().all())
    return len(gain) > 1 and bool(gain.mean() > gain.std() / len(gain) ** 0.5)


def treatment_of(answers: Answers) -> Treatment:
    """Mean field with these answers."""

    def treatment(net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget) -> Trained:
        options: dict[str, Any] = {}
        pairs = bnn_classifier.PRIOR_SD if is_classes(y) else bnn_regression.PRIOR_SD
        options["prior_sd"] = answers.prior if isinstance(answers.prior, str) else answers.prior * pairs
        if answers.kl is not None:
            options["kl_warmup"] = round(answers.kl * budget.steps)
        if (answers.sds, answers.last) != (1.0, 1.0):
            options["lr"] = rates(net, faster(budget), answers.sds, answers.last)
        return mean_field(net, x, y, budget, **options)

    return warm(treatment, answers.warm) if answers.warm else treatment


def rates(net: nn.Module, rate: float, sds: float, last: float) -> dict[str, float]:
    """{pattern of parameters of the guide: rate}: that of the means before the last layer is `rate`.

    >>> rates(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), 0.01, sds=3.0, last=2.0)
    {'2.*.scale': 0.06, '2.*': 0.02, '*.scale': 0.03, '*': 0.01}
    """
    found: dict[str, float] = {}
    if last != 1.0:
        layer = last_layer(net)
        found = {f"{layer}.*.scale": rate * sds * last} if sds != 1.0 else {}
        found[f"{layer}.*"] = rate * last
    return found | ({"*.scale": rate * sds} if sds != 1.0 else {}) | {"*": rate}


def last_layer(net: nn.Module) -> str:
    """The name of the module of the last parameters that are not frozen; "" if it has all of them."""
    names = [name.rpartition(".")[0] for name, w in net.named_parameters() if w.requires_grad]
    return names[-1] if names and len(set(names)) > 1 else ""
