"""Settings chosen by evidence: successive halving of treatments on rows that are held out of the training rows.

    of K treatments, each round trains all that are left and keeps the half with the lower NLL on the validation rows

    NLL = mean of l_n over M rows, its standard error sd(l_n) / sqrt(M);  of a difference sd(l_n - l'_n) / sqrt(M)

The steps of all rounds and of the last training, on all rows, are those of the budget. Source: Karnin, Koren and Somekh
2013; Jamieson and Talwalkar 2016 (arXiv:1502.07943, algorithm 1).
"""

import math
from collections.abc import Mapping

import torch
from torch import nn

from credo.inference.inputs.split import split
from credo.treatments.likelihood import is_classes
from credo.treatments.scores import pieces, probabilities
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
    why: Exception | None = None
    if rounds:
        held = int(len(x) * HELD)
        each = int(share * budget.steps / rounds / len(left))
        if held < 1 or each < 1:
            raise ValueError(
                f"budget: {budget.steps} steps and {len(x)} rows do not suffice to compare {len(left)} candidates; "
                f"raise the steps, or name fewer candidates"
            )
        (rest,), (out,) = split((torch.arange(len(x)),), HELD, budget.seed)
        x_in, y_in, x_out, y_out = (part[rows.to(part.device)] for rows in (rest, out) for part in (x, y))
    for _ in range(rounds):
        each = int(share * budget.steps / rounds / len(left))
        found = {}
        for name, treatment in left.items():
            try:
                trained = treatment(net, x_in, y_in, budget._replace(steps=each))
                losses = row_losses(trained, x_out, y_out, DRAWS)
            except (ValueError, ArithmeticError) as error:  # one that diverges (`Diverged`) loses, and no more
                losses, why = torch.full((len(x_out),), math.inf), error
            found[name] = losses if bool(losses.isfinite().all()) else torch.full_like(losses, math.inf)
        means = {name: float(losses.mean()) for name, losses in found.items()}
        if min(means.values()) == math.inf:
            raise ValueError(f"candidates: none of {list(found)} has a finite NLL") from why
        spent += each * len(left)
        order = sorted(found, key=lambda name: means[name])
        said.append(f"{each:,} steps each: " + ", ".join(f"{name} {_said(losses)}" for name, losses in found.items()))
        left = {name: left[name] for name in left if name in order[: math.ceil(len(left) / 2)]}
    behind = _said(found[order[1]] - found[order[0]]) if rounds and means[order[1]] < math.inf else ""
    ((name, treatment),) = left.items()
    last = budget._replace(steps=budget.steps - spent)
    trained = treatment(net, x, y, last)
    if not rounds:
        return trained
    words = f"{name!r} of {len(candidates)} by the NLL of {len(x_out):,} validation rows, in nats ({'; '.join(said)}), "
    words += f"{behind} before {order[1]!r}, " if behind else ""
    return trained._replace(words=f"{words}then {last.steps:,} steps on all rows: {trained.words}")


def row_losses(trained: Trained, x: torch.Tensor, y: torch.Tensor, draws: int) -> torch.Tensor:
    """-log p(y_n) of each row in nats, shape (N,), on the CPU, p the average over the draws. x: shape (N, ...)."""
    y = y.cpu()
    if is_classes(y):
        probs = probabilities(trained, x, draws)
        return -probs.gather(1, y[:, None])[:, 0].clamp(min=torch.finfo(probs.dtype).tiny).double().log()
    found = []
    for part, rows in pieces(x, draws):
        normals = trained.predict(part, draws).detach().double().cpu()
        logs = torch.distributions.Normal(normals[..., 0], normals[..., 1]).log_prob(y[rows].double())
        found.append(math.log(len(normals)) - logs.logsumexp(0))
    return torch.cat(found)


def _said(losses: torch.Tensor) -> str:
    """The mean of losses with its standard error, shape (N,): "0.1234 (0.0056)"; infinite losses have none."""
    if not bool(losses.isfinite().all()):
        return "inf"
    return f"{float(losses.mean()):.4f} ({float(losses.std()) / len(losses) ** 0.5 if len(losses) > 1 else 0:.4f})"
