"""Settings chosen by evidence: successive halving of treatments on rows that are held out of the training rows.

    of K treatments, each round trains all that are left and keeps the half with the lower NLL on the validation rows

    NLL = mean of l_n over M rows, its standard error sd(l_n) / sqrt(M);  of a difference sd(l_n - l'_n) / sqrt(M)

The steps of all rounds and of the last training, on all rows, are those of the budget. `chosen_at_full_length` has no
rounds: it trains each candidate with all steps, and costs as many budgets as there are candidates. Source: Karnin,
Koren and Somekh 2013; Jamieson and Talwalkar 2016 (arXiv:1502.07943, algorithm 1).
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from credo.inference.inputs.split import split
from credo.treatments.likelihood import is_classes
from credo.treatments.scores import log_densities, normals, pieces, probabilities
from credo.treatments.treatment import Budget, Trained, Treatment

HELD, SHARE, DRAWS = 0.2, 0.5, 32  # rows held out, steps of the search, draws of a prediction


def chosen_by_validation(
    candidates: Mapping[str, Treatment],
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    budget: Budget,
    *,
    share: float = SHARE,
) -> Trained:
    """The best of some treatments by the NLL of a fifth of the rows, then trained on all rows with the steps left.

    candidates: {name: treatment}. x: shape (N, ...), y: shape (N,), the rows to learn from; test rows are none of its
        business. share: of the budget's steps, for the search: each of its ceil(log2 K) rounds has as many of them,
        divided among those left. The words of the result say what was compared, what each round found, with standard
        errors over the validation rows, and by how much the winner beat the second, with that of the pairs of rows.
    A candidate that diverges loses. Raises ValueError where all do, for no candidate, a share that is not between 0 and
    1, and too few rows or steps to compare with.

    >>> import torch
    >>> from functools import partial
    >>> from credo.treatments.points import points
    >>> from credo.treatments.treatment import Budget
    >>> x, y, *_ = credo.data.digits()
    >>> decays = {f"decay {d}": partial(points, weight_decay=d) for d in (0.0, 10.0)}
    >>> trained = chosen_by_validation(decays, torch.nn.Linear(64, 10), x, y, Budget(200, 128, 1e-2))
    >>> trained.words.partition(",")[0]
    "'decay 0.0' of 2 by the NLL of 287 validation rows"
    """
    if not candidates:
        raise ValueError("candidates: got none, wanted at least one treatment by its name")
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ValueError(f"share: got {share!r}, wanted the share of the steps for the search, between 0 and 1")
    left, said = dict(candidates), []
    rounds = math.ceil(math.log2(len(left)))
    spent = 0
    if rounds:
        each = int(share * budget.steps / rounds / len(left))
        if int(len(x) * HELD) < 1 or each < 1:
            raise ValueError(
                f"budget: {budget.steps} steps and {len(x)} rows do not suffice to compare {len(left)} candidates; "
                f"raise the steps, or name fewer candidates"
            )
        rows = parted(x, y, budget.seed)
    for _ in range(rounds):
        each = int(share * budget.steps / rounds / len(left))
        found = compared(left, net, rows, budget._replace(steps=each))
        spent += each * len(left)
        order = ranked(found)
        said.append(f"{each:,} steps each: {said_of_all(found)}")
        left = {name: left[name] for name in left if name in order[: math.ceil(len(left) / 2)]}
    ((name, treatment),) = left.items()
    last = budget._replace(steps=budget.steps - spent)
    trained = treatment(net, x, y, last)
    if not rounds:
        return trained
    words = (
        f"{name!r} of {len(candidates)} by the NLL of {len(rows[3]):,} validation rows, in nats ({'; '.join(said)}), "
    )
    words += ahead(found, order)
    return trained._replace(words=f"{words}then {last.steps:,} steps on all rows: {trained.words}")


def chosen_at_full_length(
    candidates: Mapping[str, Treatment], net: nn.Module, x: torch.Tensor, y: torch.Tensor, budget: Budget
) -> Trained:
    """The best of some treatments by the NLL of a fifth of the rows, each at all steps; then trained on all rows.

    For treatments whose order after a few steps says little of that at the end, as of a posterior that starts at a
    trained network. The search costs as many budgets as there are candidates, which the words say. candidates, x, y,
    errors: as for `chosen_by_validation`.

    >>> import torch
    >>> from functools import partial
    >>> from credo.treatments.points import points
    >>> from credo.treatments.treatment import Budget
    >>> x, y, *_ = credo.data.digits()
    >>> decays = {f"decay {d}": partial(points, weight_decay=d) for d in (0.0, 10.0)}
    >>> trained = chosen_at_full_length(decays, torch.nn.Linear(64, 10), x, y, Budget(100, 128, 1e-2))
    >>> trained.words.partition(" validation rows")[0]
    "'decay 0.0' of 2, 100 steps each, by the NLL of 287"
    """
    if not candidates:
        raise ValueError("candidates: got none, wanted at least one treatment by its name")
    if len(candidates) == 1:
        (treatment,) = candidates.values()
        return treatment(net, x, y, budget)
    found = compared(candidates, net, parted(x, y, budget.seed), budget)
    order = ranked(found)
    trained = candidates[order[0]](net, x, y, budget)
    words = f"{order[0]!r} of {len(found)}, {budget.steps:,} steps each, by the NLL of {len(found[order[0]]):,} "
    words += f"validation rows, in nats ({said_of_all(found)}), "
    words += f"{ahead(found, order)}then on all rows: {trained.words}"
    return trained._replace(words=words)


def parted(x: torch.Tensor, y: torch.Tensor, seed: int) -> tuple[torch.Tensor, ...]:
    """(x, y) of the rows to learn from, (x, y) of a fifth that is held out. Raises ValueError for too few rows."""
    if int(len(x) * HELD) < 1:
        raise ValueError(f"x: got {len(x)} rows, wanted at least {math.ceil(1 / HELD)}, of which a fifth are held out")
    (rest,), (out,) = split((torch.arange(len(x)),), HELD, seed)
    x_in, y_in, x_out, y_out = (part[rows.to(part.device)] for rows in (rest, out) for part in (x, y))
    return x_in, y_in, x_out, y_out


def compared(
    candidates: Mapping[str, Treatment],
    net: nn.Module,
    rows: tuple[torch.Tensor, ...],
    budget: Budget,
) -> dict[str, torch.Tensor]:
    """{name: losses of the rows that are out}, infinite of those that diverge. Raises ValueError where all do.

    rows: of `parted`. budget: of each candidate.
    """
    x, y, x_out, y_out = rows
    found: dict[str, torch.Tensor] = {}
    why: Exception | None = None
    for name, treatment in candidates.items():
        try:
            losses = row_losses(treatment(net, x, y, budget), x_out, y_out, DRAWS)
        except (ValueError, ArithmeticError) as error:  # one that diverges (`Diverged`) loses, and no more
            losses, why = torch.full((len(x_out),), math.inf), error
        found[name] = losses if bool(losses.isfinite().all()) else torch.full_like(losses, math.inf)
    if not any(bool(losses.isfinite().all()) for losses in found.values()):
        last = "" if why is None else f"; the last of them raised {type(why).__name__}: {why}"
        raise ValueError(f"candidates: none of {list(found)} has a finite NLL{last}") from why
    return found


def ranked(found: Mapping[str, torch.Tensor]) -> list[str]:
    """The names, that of the lowest mean loss first."""
    return sorted(found, key=lambda name: float(found[name].mean()))


def ahead(found: Mapping[str, torch.Tensor], order: Sequence[str]) -> str:
    """By how much the first is ahead of the second, with the standard error of the pairs, in words."""
    first, second = found[order[0]], found[order[1]]
    return f"{said_of(second - first)} before {order[1]!r}, " if bool(second.isfinite().all()) else ""


def row_losses(trained: Trained, x: torch.Tensor, y: torch.Tensor, draws: int) -> torch.Tensor:
    """-log p(y_n) of each row in nats, shape (N,), on the CPU, p the average over the draws. x: shape (N, ...)."""
    y = y.cpu()
    if is_classes(y):
        probs = probabilities(trained, x, draws)
        return -probs.gather(1, y[:, None])[:, 0].clamp(min=torch.finfo(probs.dtype).tiny).double().log()
    found = []
    for part, rows in pieces(x, draws):
        found.append(-log_densities(normals(trained.predict(part, draws), len(part)), y[rows].double()))
    return torch.cat(found)


def said_of_all(found: Mapping[str, torch.Tensor]) -> str:
    """Each name with the mean of its losses and the standard error."""
    return ", ".join(f"{name} {said_of(losses)}" for name, losses in found.items())


def said_of(losses: torch.Tensor) -> str:
    """The mean of losses with its standard error, shape (N,): "0.1234 (0.0056)"; infinite losses have none."""
    if not bool(losses.isfinite().all()):
        return "inf"
    return f"{float(losses.mean()):.4f} ({float(losses.std()) / len(losses) ** 0.5 if len(losses) > 1 else 0:.4f})"
