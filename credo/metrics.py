"""What a predictive distribution is worth: for classes, and for telling strangers from the familiar.

    nll   = -1/N Σ_i log p(y_i)                                       nats per row
    brier =  1/N Σ_i Σ_c (p_ic - [y_i = c])²                          from 0 to 2 (Brier 1950)
    ece   =  Σ_m |B_m|/N · |accuracy(B_m) - confidence(B_m)|          B_m: rows whose top probability lies in
                                                                      ((m-1)/M, m/M] (Guo et al. 2017, eq. 3)
    H[E p] = E H[p] + I(y; z)         total = aleatoric + epistemic   nats (Houlsby et al. 2011, eq. 2;
                                                                      Depeweg et al. 2018)
    auroc = p(stranger > familiar) + p(tie) / 2                       (Hanley and McNeil 1982)

Probabilities have shape (N, C), N rows of C classes; or (S, N, C), one such table for each of S draws of the latents.
Everything is computed in double precision; rows are normalised first, so that rounding in float32 does no harm.
"""

import pandas as pd
import torch

ECE_BINS = 15


def classification(probs: torch.Tensor, y: torch.Tensor) -> pd.Series:
    """accuracy, nll (nats per row), brier, ece (15 equal bins of confidence, L1).

    probs: shape (N, C), or (S, N, C), which is averaged over its draws first: the posterior predictive.
    y: shape (N,), classes from 0 to C - 1. Ties go to the lower class. A probability of the true class below the
        smallest normal number of the dtype of probs counts as that number: 87.3 nats in float32, 708.4 in float64.
    Raises ValueError for shapes that do not fit, for what are no probabilities, and for labels that are no classes.
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
    """A row for each input: total, aleatoric and epistemic uncertainty in nats, from 0 to log C.

    total: H[E p], the entropy of the averaged prediction. aleatoric: E H[p], what would remain if the latents were
        known. epistemic: I(y; z), what the label would say about the latents; zero where all draws agree.
    draws: shape (S, N, C). The estimate of the epistemic part from S draws is too low by O(1/S), and never above log S.
    Raises ValueError for another shape and for what are no probabilities.
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


def auroc(inside: torch.Tensor, outside: torch.Tensor) -> float:
    """The probability that a score of `outside` exceeds one of `inside`, ties counted half; 0.5 is chance.

    inside: shape (N,), scores of familiar inputs. outside: shape (M,), scores of strangers. Higher means stranger:
        the total or epistemic uncertainty, or minus the largest probability. Infinite scores are scores.
    Raises ValueError for another shape, an empty tensor, or NaN.
    """
    for name, scores in (("inside", inside), ("outside", outside)):
        if not isinstance(scores, torch.Tensor) or scores.dim() != 1 or not len(scores):
            raise ValueError(f"{name}: got {_what(scores)}, wanted a tensor of shape (N,): a score for each input")
        if scores.isnan().any():
            raise ValueError(
                f"{name}: {int(scores.isnan().sum())} of {len(scores)} scores are NaN; remove or mend them"
            )
    from sklearn.metrics import roc_auc_score

    scores = torch.cat([inside.detach().double().cpu(), outside.detach().double().cpu()])
    ranks = scores.unique(return_inverse=True)[1]  # scikit-learn refuses infinite scores; their order is all it needs
    return float(roc_auc_score((torch.arange(len(scores)) >= len(inside)).numpy(), ranks.numpy()))


def reliability(probs: torch.Tensor, y: torch.Tensor, bins: int = 10) -> pd.DataFrame:
    """A row for each bin of confidence ((m-1)/M, m/M]: count, mean confidence, accuracy; NaN where the count is 0.

    Calibrated means: where the confidence is 0.8, four of five are right. Arguments and errors as for
    `classification`; the index holds the bins as intervals.
    """
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins: got {bins!r}, wanted a whole number from 1 on")
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


def _predictive(probs: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The averaged probabilities, shape (N, C), double, and the labels, shape (N,), int64, on the same device."""
    _check_probabilities("probs", probs, dims=(2, 3))
    rows, classes = probs.shape[-2:]
    if not isinstance(y, torch.Tensor) or y.shape != (rows,):
        raise ValueError(
            f"y: got {_what(y)}, wanted shape ({rows},), a class for each row of probs {tuple(probs.shape)}"
        )
    labels = y.to(probs.device, torch.int64)
    wrong = (labels < 0) | (labels >= classes) | (labels != y.to(probs.device))
    if wrong.any():
        raise ValueError(
            f"y: {int(wrong.sum())} of {rows} labels are no class, the first is {y[wrong.to(y.device)][0].item()}; "
            f"wanted whole numbers from 0 to {classes - 1}, for probs has {classes} columns: number the classes from 0"
        )
    with torch.no_grad():
        return _mean_over_draws(probs if probs.dim() == 3 else probs[None])[0], labels


def _mean_over_draws(draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """E p, shape (N, C), and E H[p], shape (N,), in double; one draw at a time, for there may be many."""
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
            f"{name}: got {_what(p)}, wanted probabilities of shape {wanted}: S draws, N rows, C classes. Drawn labels "
            f"are none: take them from a deterministic site of the model; of two classes give both, 1 - p and p"
        )
    # C roundings add up to this; in bfloat16 that is far more than in float32.
    slack = max(1e-4, p.shape[-1] ** 0.5 * torch.finfo(p.dtype).eps)
    low, sums = p.detach().min().item(), p.detach().sum(-1, dtype=torch.float64)
    worst = sums.flatten()[(sums - 1).abs().argmax()].item()
    if not (low >= 0 and abs(worst - 1) <= slack):
        raise ValueError(
            f"{name}: the smallest entry is {low:.4g} and a row sums to {worst:.6g}; wanted probabilities, not "
            f"negative, which sum to 1 along the last axis: of logits take .softmax(-1), of log-probabilities .exp()"
        )


def _what(value: object) -> str:
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"a tensor of shape {tuple(value.shape)} and dtype {value.dtype}"
