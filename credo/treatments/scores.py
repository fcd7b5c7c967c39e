"""Scores of a trained treatment on rows that it has not seen, in bounded memory: rows in pieces.

    p(y_n) = 1/S Σ_s p(y_n | x_n, w_s),   nll = -1/N Σ_n log p(y_n)         the scores are those of the average

A piece of rows has at most 32,768 predictions of all draws together, so the memory does not grow with the rows. For
numbers p(y_n) is a mixture of S normals, by log-sum-exp; its share below y_n says whether y_n is in the interval.
"""

import math
import time
from collections.abc import Iterator
from typing import Any

import torch

from credo import metrics
from credo.treatments.likelihood import is_classes
from credo.treatments.treatment import Trained

AT_ONCE = 2**15  # rows times draws of a piece
ROWS = 1024  # of a piece, at most
CENTRAL = 0.9  # probability of the interval whose coverage is given


def scores(
    trained: Trained, x: torch.Tensor, y: torch.Tensor, draws: int, ood: torch.Tensor | None = None
) -> dict[str, float]:
    """The scores of the predictions at x, {column: number}.

    Classes (y of integers): `error`, the share of wrong classes, `nll` in nats per row, `ece` and `brier` as
    `credo.metrics.classification`; with `ood`, `ood_auroc` of the entropy of the averaged prediction
    (`credo.metrics.auroc`). Numbers: `rmse` of the average in the units of y, `nll`, and `coverage`, the share of y in
    the central 90 % of the prediction. Both: `predict_seconds` for x.

    x: shape (N, ...). y: shape (N,). draws: S of a treatment that draws. ood: shape (M, ...), rows unlike those of x.
    Raises ValueError for predictions that are not (S, N, C) probabilities, or (S, N, 2) with positive sds.
    """
    if is_classes(y):
        begun = time.perf_counter()
        probs = probabilities(trained, x, draws)
        seconds = time.perf_counter() - begun
        of = metrics.classification(probs, y)
        found = {"error": 1 - of["accuracy"], **of[["nll", "ece", "brier"]]}
        if ood is not None:
            inside, outside = (entropy(p) for p in (probs, probabilities(trained, ood, draws)))
            found["ood_auroc"] = metrics.auroc(inside, outside)
        return {**found, "predict_seconds": seconds}
    begun, sums = time.perf_counter(), torch.zeros(3, dtype=torch.float64)
    for part, rows in pieces(x, draws):
        sums += mixture(normals(trained.predict(part, draws), len(part)), y[rows].cpu().double())
    square, nll, inside = (sums / len(x)).tolist()
    return {"rmse": square**0.5, "nll": nll, "coverage": inside, "predict_seconds": time.perf_counter() - begun}


def probabilities(trained: Trained, x: torch.Tensor, draws: int) -> torch.Tensor:
    """The average of the draws' probabilities, shape (N, C), on the CPU; summed in double precision."""
    return torch.cat([_probabilities(trained.predict(part, draws), len(part)) for part, _ in pieces(x, draws)])


def mixture(normals: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(Σ_n (mean_n - y_n)², -Σ_n log p(y_n), how many y are in the central 90 %) of mixtures of S normals.

    normals: shape (S, N, 2), mean and sd. y: shape (N,). p(y_n) = 1/S Σ_s N(y_n; mean_sn, sd_sn²).
    """
    below = torch.distributions.Normal(normals[..., 0], normals[..., 1]).cdf(y).mean(0)
    inside = (below - 0.5).abs() <= CENTRAL / 2
    errors = (normals[..., 0].mean(0) - y).square()
    return torch.stack([errors.sum(), -log_densities(normals, y).sum(), inside.double().sum()])


def log_densities(normals: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """log p(y_n) in nats, shape (N,), of the same mixtures."""
    each = torch.distributions.Normal(normals[..., 0], normals[..., 1])
    return each.log_prob(y).logsumexp(0) - math.log(len(normals))


def entropy(probs: torch.Tensor) -> torch.Tensor:
    """-Σ_c p_c log p_c of each row, shape (N,), in nats."""
    return torch.special.entr(probs).sum(-1)


def pieces(x: torch.Tensor, draws: int) -> Iterator[tuple[torch.Tensor, slice]]:
    """The rows of x one piece after the other, each with its place."""
    size = max(1, min(ROWS, AT_ONCE // max(1, draws)))
    for first in range(0, len(x), size):
        place = slice(first, min(first + size, len(x)))
        yield x[place], place


def _probabilities(predicted: Any, rows: int) -> torch.Tensor:
    _refuse_shape(predicted, rows, "C", 2)
    # Back to the dtype of the prediction: it says which probabilities are too small to be told from zero.
    probs = predicted.detach().double().mean(0).to(predicted.dtype).cpu()
    if not bool(probs.isfinite().all()):
        raise ValueError("predict: got probabilities that are not finite; the training diverged, lower the rate `lr`")
    return probs


def normals(predicted: Any, rows: int) -> torch.Tensor:
    """Predicted means and sds, shape (S, N, 2), in double precision on the CPU. Raises ValueError for what is none."""
    _refuse_shape(predicted, rows, "2", 2)
    found: torch.Tensor = predicted.detach().double().cpu()
    if found.shape[-1] != 2 or not bool(found.isfinite().all()) or not bool((found[..., 1] > 0).all()):
        raise ValueError(
            f"predict: got shape {tuple(found.shape)} with sds from {float(found[..., -1].min()):.3g}, wanted "
            f"finite means and positive sds, (S, {rows}, 2); if the training diverged, lower the rate `lr`"
        )
    return found


def _refuse_shape(predicted: Any, rows: int, last: str, least: int) -> None:
    fits = isinstance(predicted, torch.Tensor) and predicted.dim() == 3 and predicted.shape[1] == rows
    if not fits or predicted.shape[0] < 1 or predicted.shape[2] < least:
        what = f"shape {tuple(predicted.shape)}" if isinstance(predicted, torch.Tensor) else type(predicted).__name__
        raise ValueError(f"predict: got {what}, wanted a tensor of shape (S, {rows}, {last}): S draws of {rows} rows")
