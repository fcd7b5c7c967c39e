"""Scores of predicted class probabilities: accuracy, calibration, uncertainty, out-of-distribution detection.

    nll   = -1/N Σ_i log p(y_i)                                       nats per row
    brier =  1/N Σ_i Σ_c (p_ic - [y_i = c])²                          from 0 to 2 (Brier 1950)
    ece   =  Σ_m |B_m|/N · |accuracy(B_m) - confidence(B_m)|          B_m: rows whose top probability lies in
                                                                      ((m-1)/M, m/M] (Guo et al. 2017, eq. 3)
    H[E p] = E H[p] + I(y; z)         total = aleatoric + epistemic   nats (Houlsby et al. 2011, eq. 2;
                                                                      Depeweg et al. 2018)
    auroc = p(outside > inside) + p(tie) / 2                          (Hanley and McNeil 1982)

Probabilities have shape (N, C), N rows of C classes; or (S, N, C), such a table for each of S draws of the latents.
Everything is computed in double precision. Rows are normalised first, so rounding in float32 does no harm.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch

ECE_BINS = 15


def classification(probs: torch.Tensor, y: Any) -> pd.Series:
    """Accuracy, negative log likelihood, Brier score and expected calibration error of predicted classes.

        nll = -1/N Σ_i log p(y_i) nats per row;  brier = 1/N Σ_i Σ_c (p_ic - [y_i = c])²
        ece = Σ_m |B_m|/N · |accuracy(B_m) - confidence(B_m)|,  15 equal bins of confidence (Guo et al. 2017, eq. 3)

    probs: shape (N, C), or (S, N, C) with S draws, whose mean is the posterior predictive.
    y: shape (N,), classes from 0 to C - 1, a tensor, an array or a Series. If several classes have the largest
        probability, the lowest is predicted.
        A probability of the true class below the smallest normal number of the dtype of probs counts as that number,
        which is 87.3 nats in float32 and 708.4 nats in float64.
    Returns a Series: accuracy, nll, brier, ece. Raises ValueError for shapes that do not match, for numbers that are
    not probabilities, and for labels that are not classes.

    >>> import torch
    >>> probs = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> credo.metrics.classification(probs, torch.tensor([0, 1, 1])).round(3).to_dict()
    {'accuracy': 0.667, 'nll': 0.415, 'brier': 0.273, 'ece': 0.3}
    """
    p, labels = _predictive(probs, y)
    truth = torch.nn.functional.one_hot(labels, p.shape[1])
    of_truth = p[torch.arange(len(p), device=p.device), labels].clamp(min=torch.finfo(probs.dtype).tiny)
    bins = _bins(p, labels, ECE_BINS)
    filled = bins[bins["count"] > 0]
    return pd.Series(
        {
            "accuracy": (p.argmax(-1) == labels).double().mean().item(),
            "nll": -of_truth.log().mean().item(),
            "brier": (p - truth).square().sum(-1).mean().item(),
            "ece": (filled["count"] * (filled["accuracy"] - filled["confidence"]).abs()).sum() / len(p),
        }
    )


def uncertainty(draws: torch.Tensor) -> pd.DataFrame:
    """Total, aleatoric and epistemic uncertainty of each input, in nats: a row for each input, columns of these names.

        H[E p] = E H[p] + I(y; z)        total = aleatoric + epistemic, from 0 to log C (Houlsby et al. 2011, eq. 2)

    Columns: `total`, the entropy of the averaged prediction; `aleatoric`, the expected entropy if the latents were
    known; `epistemic`, the mutual information of label and latents, 0 where all draws agree.
    draws: shape (S, N, C). The estimate of the epistemic part from S draws is too low by O(1/S), and at most log S.
    Raises ValueError for another shape and for numbers that are not probabilities.

    >>> import torch
    >>> draws = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])  # 2 draws, 2 inputs, 2 classes
    >>> credo.metrics.uncertainty(draws).round(3).values.tolist()
    [[0.693, 0.0, 0.693], [0.693, 0.693, 0.0]]
    """
    _check_probabilities("draws", draws, dims=(3,))
    with torch.no_grad():
        mean, inner = _mean_over_draws(draws)
        total = torch.special.entr(mean).sum(-1)
        epistemic = (total - inner).clamp(min=0)  # Jensen: below zero only by rounding
    return pd.DataFrame(
        {
            "total": total.cpu().numpy(),
            "aleatoric": (total - epistemic).cpu().numpy(),
            "epistemic": epistemic.cpu().numpy(),
        }
    )


def auroc(inside: Any, outside: Any) -> float:
    """Area under the ROC curve: the probability that a score of `outside` exceeds a score of `inside`.

        auroc = p(outside > inside) + p(outside = inside) / 2          from 0 to 1; 0.5 is chance (Hanley, McNeil 1982)

    inside: shape (N,), scores of inputs like the training data, a tensor, an array or a Series, as a column of
        `credo.metrics.uncertainty`. outside: shape (M,), scores of out-of-distribution inputs. A higher score means
        less like the training data: the total or epistemic uncertainty in nats, or minus the largest probability.
        Scores can be infinite.
    Raises ValueError for another shape, an empty tensor, or NaN.

    >>> import torch
    >>> round(credo.metrics.auroc(inside=torch.tensor([0.1, 0.2, 0.3]), outside=torch.tensor([0.3, 0.9])), 3)
    0.917
    """
    inside, outside = as_tensor(inside), as_tensor(outside)
    for name, scores in (("inside", inside), ("outside", outside)):
        if not isinstance(scores, torch.Tensor) or scores.dim() != 1 or not len(scores):
            raise ValueError(f"{name}: got {_what(scores)}, wanted a tensor of shape (N,): a score for each input")
        if scores.isnan().any():
            raise ValueError(f"{name}: {int(scores.isnan().sum())} of {len(scores)} scores are NaN; remove them")
    from sklearn.metrics import roc_auc_score

    scores = torch.cat([inside.detach().double().cpu(), outside.detach().double().cpu()])
    ranks = scores.unique(return_inverse=True)[1]  # scikit-learn refuses infinite scores; their order is all it needs
    return float(roc_auc_score((torch.arange(len(scores)) >= len(inside)).numpy(), ranks.numpy()))


def reliability(probs: torch.Tensor, y: Any, bins: int = 10) -> pd.DataFrame:
    """Reliability diagram as a table: count, mean confidence and accuracy in each bin of confidence.

    A classifier is calibrated if accuracy equals confidence: of five predictions at 0.8, four are right. Bin m of M
    is ((m-1)/M, m/M]; the index holds the bins as intervals. Empty bins have count 0 and NaN.

    probs, y: as for `classification`, with its errors. bins: their number M; ValueError unless it is at least 1.

    >>> import torch
    >>> probs = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> credo.metrics.reliability(probs, torch.tensor([0, 1, 1]), bins=2)["accuracy"].round(3).tolist()
    [nan, 0.667]
    """
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins: got {bins!r}, wanted a whole number, at least 1")
    return _bins(*_predictive(probs, y), bins)


def _bins(p: torch.Tensor, labels: torch.Tensor, bins: int) -> pd.DataFrame:
    # Not torchmetrics: it opens one more bin for a confidence of exactly 1, and float32 says that often.
    confidence, top = p.max(-1)
    edges = torch.arange(bins + 1, dtype=p.dtype, device=p.device) / bins
    index = torch.bucketize(confidence, edges[1:-1].contiguous())
    count = torch.bincount(index, minlength=bins)
    right = (top == labels).double()
    means = [torch.bincount(index, weights=values, minlength=bins) / count for values in (confidence, right)]
    columns = zip(("count", "confidence", "accuracy"), (count, *means), strict=True)
    return pd.DataFrame(
        {name: values.cpu().numpy() for name, values in columns},
        index=pd.IntervalIndex.from_breaks(edges.tolist(), name="bin"),
    )


def as_tensor(values: Any) -> Any:
    """An array or a Series of numbers as a tensor; anything else as it is."""
    if not isinstance(values, np.ndarray | pd.Series) or np.asarray(values).dtype.kind not in "biuf":
        return values
    return torch.as_tensor(np.array(values))


def _predictive(probs: torch.Tensor, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean probabilities over draws, shape (N, C), double; the labels, shape (N,), int64, on the same device."""
    _check_probabilities("probs", probs, dims=(2, 3))
    rows, classes = probs.shape[-2:]
    y = as_tensor(y)
    if not isinstance(y, torch.Tensor) or y.shape != (rows,):
        raise ValueError(
            f"y: got {_what(y)}, wanted shape ({rows},), a class for each row of probs {tuple(probs.shape)}"
        )
    labels = y.to(probs.device, torch.int64)
    wrong = (labels < 0) | (labels >= classes) | (labels != y.to(probs.device))
    if wrong.any():
        raise ValueError(
            f"y: {int(wrong.sum())} of {rows} labels are not classes, the first is {y[wrong.to(y.device)][0].item()}; "
            f"wanted whole numbers from 0 to {classes - 1}, as probs has {classes} columns; number the classes from 0"
        )
    with torch.no_grad():
        return _mean_over_draws(probs if probs.dim() == 3 else probs[None])[0], labels


def _mean_over_draws(draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """E p, shape (N, C), and E H[p], shape (N,), in double; one draw at a time, to bound the memory."""
    mean = draws.new_zeros(draws.shape[1:], dtype=torch.float64)
    inner = draws.new_zeros(draws.shape[1], dtype=torch.float64)
    for p in draws:
        p = p.double() / p.double().sum(-1, keepdim=True)
        mean += p / len(draws)
        inner += torch.special.entr(p).sum(-1) / len(draws)
    return mean, inner


def _check_probabilities(name: str, p: torch.Tensor, dims: tuple[int, ...]) -> None:
    if not isinstance(p, torch.Tensor) or p.dim() not in dims or not p.numel() or not p.is_floating_point():
        wanted = " or ".join({2: "(N, C)", 3: "(S, N, C)"}[d] for d in dims)
        raise ValueError(
            f"{name}: got {_what(p)}, wanted probabilities of shape {wanted}: S draws, N rows, C classes. For drawn "
            f"labels, read the probabilities from a deterministic site of the model; for two classes give 1 - p and p"
        )
    # C roundings add up to this; in bfloat16 that is far more than in float32.
    slack = max(1e-4, p.shape[-1] ** 0.5 * torch.finfo(p.dtype).eps)
    low, sums = p.detach().min().item(), p.detach().sum(-1, dtype=torch.float64)
    worst = sums.flatten()[(sums - 1).abs().argmax()].item()
    if not (low >= 0 and abs(worst - 1) <= slack):
        raise ValueError(
            f"{name}: the smallest entry is {low:.4g} and a row sums to {worst:.6g}; wanted probabilities, not "
            f"negative, that sum to 1 along the last axis; for logits use .softmax(-1), for log probabilities .exp()"
        )


def _what(value: object) -> str:
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"a tensor of shape {tuple(value.shape)} and dtype {value.dtype}"
