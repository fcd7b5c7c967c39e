"""Plots of a classifier: calibration, and out-of-distribution detection."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from credo import metrics
from credo.metrics.classes import as_tensor
from credo.plots.style import FIT, POINTS, PRIOR, SMALL, axes, headline, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TELLS = ((0.9, "tells", ""), (0.7, "tells", " only in part"), (0.0, "hardly tells", ""))  # from which AUROC on
LOWER = 0.3  # AUROC, up to which the entropy of strange inputs is the lower one
CLOSE = 3  # percent, below which a difference is shown to a tenth
UNLIKELY = 0.001  # chance of the right ones in a bin, below which it is not calibrated, whatever the others are
AREA, DOT = 350, 15  # square points: of a point with all rows, and of the smallest one


def reliability(probs: torch.Tensor, y: Any, ax: "Axes | None" = None, *, bins: int = 10, least: int = 20) -> "Axes":
    """Reliability diagram: accuracy against mean confidence in equal bins of confidence.

    A calibrated classifier lies on the diagonal, accuracy = confidence; below it, it is too confident. The area of a
    point is its share of the rows, the number below it their count. Bins with few rows are merged with their
    neighbours. The lines are 95 % intervals of the accuracy (Wilson 1927). The headline says whether the classifier is
    too confident, by its mean confidence less its accuracy, and states the expected calibration error (ECE) of
    `credo.metrics.classification`, which has 15 bins whatever `bins` is.

    probs: shape (N, C), or (S, N, C) with S draws, which are averaged. y: shape (N,), classes from 0.
    ax: Axes to draw on; None makes a figure. bins: number of bins. least: rows of a point, unless all are fewer.
    Raises ValueError as `credo.metrics.reliability`.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> probs = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> ax = credo.plots.reliability(probs, torch.tensor([0, 1, 1]), ax=Figure().subplots())
    >>> " ".join(ax.get_title().split())
    'Calibrated within chance: expects 76.7 % to be right, 66.7 % are (ECE 0.300)'
    """
    table = _merged(metrics.reliability(probs, y, bins), least)
    ece = metrics.classification(probs, y)["ece"]
    count, confidence, accuracy = (table[name].to_numpy() for name in ("count", "confidence", "accuracy"))
    ax = axes(ax)
    ax.plot([0, 1], [0, 1], color=PRIOR, lw=0.8, ls="--")
    low, high = _wilson(accuracy, count)
    ax.vlines(confidence, low, high, color=FIT, lw=1.2, alpha=0.6)
    ax.plot(confidence, accuracy, "-", color=FIT, lw=0.8, alpha=0.3)
    ax.scatter(confidence, accuracy, AREA * count / count.sum() + DOT, color=FIT, zorder=3, clip_on=False)
    for x, rows in zip(_places(confidence), count, strict=True):
        words = f"{rows:,}" if rows < 10_000 else f"{rows / 1000:.0f}k"
        ax.text(x, 0.015, words, ha="center", fontsize=SMALL, color="0.45")
    ax.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="confidence", ylabel="accuracy")
    headline(ax, f"{_confidence(table)} (ECE {ece:.3f})")
    return ax


def strangeness(entropies: Mapping[str, Any], ax: "Axes | None" = None) -> "Axes":
    """Out-of-distribution detection: histograms of the entropy of the prediction for several sets of inputs.

    The legend states the AUROC of each set against the first (`credo.metrics.auroc`): 1 if every one of its inputs has
    a higher entropy than every input of the first set, 0.5 if entropy does not separate the two sets. The headline is
    about the set that is hardest to tell from the first.

    entropies: {label: shape (N,), nats}, tensors, arrays or columns of `credo.metrics.uncertainty`; the first set is
        like the training data.
    ax: Axes to draw on; None makes a figure.
    Raises ValueError for an empty mapping, and as `credo.metrics.auroc`.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> entropies = {"test": torch.tensor([0.1, 0.2]), "noise": torch.tensor([0.6, 0.7])}
    >>> ax = credo.plots.strangeness(entropies, ax=Figure().subplots())
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['test', 'noise (AUROC 1.00)']
    """
    if not entropies:
        raise ValueError(
            "entropies: got none, wanted {label: tensor of shape (N,)}, first the set like the training data"
        )
    ax = axes(ax)
    values = {label: as_tensor(scores).detach().double().cpu() for label, scores in entropies.items()}
    first = next(iter(values.values()))
    aurocs = {label: metrics.auroc(first, v) for label, v in values.items() if v is not first}
    low = min(0.0, *(v.min().item() for v in values.values()))
    high = max(v.max().item() for v in values.values())
    edges = np.linspace(low, high if high > low else low + 1, 31).tolist()
    colors = (FIT, *POINTS, *(f"C{i}" for i in range(10)))
    for (label, scores), color in zip(values.items(), colors, strict=False):
        if scores is not first:
            label = f"{label} (AUROC {aurocs[label]:.2f})"
        share = np.full(len(scores), 1 / len(scores))
        ax.hist(scores.numpy(), edges, weights=share, color=color, alpha=0.3, label=label)
        ax.hist(scores.numpy(), edges, weights=share, color=color, histtype="step", lw=1.2)
    ax.margins(x=0)
    ax.set(xlabel="entropy of the prediction (nats)", ylabel="share of the inputs")
    if aurocs:
        label = min(aurocs, key=lambda name: aurocs[name])
        tells, partly = next((tells, partly) for least, tells, partly in TELLS if aurocs[label] >= least)
        words = f"Entropy {tells} {label} from {next(iter(values))}{partly}"
        if aurocs[label] <= LOWER:
            words = f"Entropy is lower for {label} than for {next(iter(values))}"
        headline(ax, f"{words}: AUROC {aurocs[label]:.2f}")
    legend(ax)
    return ax


def _confidence(table: pd.DataFrame) -> str:
    """Whether a classifier is too confident, by its mean confidence less its accuracy, and where most so.

    table: count, confidence, accuracy of each bin. Were it calibrated, the variance of the difference would be the mean
    of c (1 - c) / N; beyond 2 sds it is overconfident or underconfident. Bins may be off in both directions.
    """
    share = table["count"] / table["count"].sum()
    said, right = (share * table["confidence"]).sum(), (share * table["accuracy"]).sum()
    sd = ((share * table["confidence"] * (1 - table["confidence"])).sum() / table["count"].sum()) ** 0.5
    gap = share * (table["confidence"] - table["accuracy"])
    if abs(said - right) <= 2 * sd:
        off = pd.Series([_chance(*row) for row in table.itertuples(index=False)], table.index) < UNLIKELY
        if off.any():
            return f"Right on average only: {_where(table.loc[gap.abs().where(off).idxmax()])}"
        return f"Calibrated within chance: expects {100 * said:.1f} % to be right, {100 * right:.1f} % are"
    worst = table.loc[(gap if said > right else -gap).idxmax()]
    return f"{'Overconfident' if said > right else 'Underconfident'}: {_where(worst)}"


def _chance(count: int, confidence: float, accuracy: float) -> float:
    """The probability that as many rows of a bin are right, or as few, as are: the smaller of both, by the binomial."""
    c, right = torch.tensor(min(confidence, 1.0), dtype=torch.float64), round(accuracy * count)
    masses = torch.distributions.Binomial(int(count), c).log_prob(torch.arange(count + 1.0).double()).exp()
    return min(masses[: right + 1].sum().item(), masses[right:].sum().item())


def _where(row: pd.Series) -> str:
    """The confidence and the accuracy of a bin, to a tenth where they are close."""
    says, are = 100 * row["confidence"], 100 * row["accuracy"]
    digits = 1 if abs(says - are) < CLOSE else 0
    return f"where it says {says:.{digits}f} %, {are:.{digits}f} % are right"


def _merged(table: pd.DataFrame, least: int) -> pd.DataFrame:
    """The bins of `credo.metrics.reliability` from left to right, merged until each has so many rows; the last as well.

    Columns: count, and means over the rows: confidence, accuracy. Thin bins join those on their right, and the last
    ones those on their left.
    """
    if isinstance(least, bool) or not isinstance(least, int) or least < 1:
        raise ValueError(f"least: got {least!r}, wanted a whole number of rows, at least 1")
    filled = table[table["count"] > 0]
    groups: list[int] = []
    rows, group = 0, 0
    for count in filled["count"]:
        groups.append(group)
        rows += count
        if rows >= least:
            rows, group = 0, group + 1
    if rows and group:  # too few are left over
        groups = [min(g, group - 1) for g in groups]
    parts = [part for _, part in filled.groupby(groups)]
    count = np.array([part["count"].sum() for part in parts])
    means = {
        name: [float((part[name] * part["count"]).sum()) for part in parts] / count
        for name in ("confidence", "accuracy")
    }
    return pd.DataFrame({"count": count, **means})


def _places(wanted: np.ndarray, gap: float = 0.07, end: float = 0.97) -> np.ndarray:
    """Places from left to right near to the wanted ones, with gaps between them."""
    steps = min(gap, end / len(wanted)) * np.arange(len(wanted))
    right = np.maximum.accumulate(np.maximum(wanted, 1 - end) - steps) + steps
    return np.asarray(np.minimum(right, end - steps[::-1]))


def _wilson(share: np.ndarray, n: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of a binomial probability, given the observed share of n trials and the normal quantile z."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
