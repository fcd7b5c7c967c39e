"""A classifier: is it as sure as it should be, and does it know a stranger when it sees one?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from credo import metrics
from credo.plots.style import FIT, POINTS, PRIOR, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def reliability(probs: torch.Tensor, y: torch.Tensor, ax: "Axes | None" = None, *, bins: int = 10) -> "Axes":
    """Accuracy against mean confidence in equal bins of confidence; a calibrated classifier lies on the diagonal.

    probs: shape (N, C), or (S, N, C) with S draws, which are averaged. y: shape (N,), classes from 0.
    The lines are 95 % Wilson intervals of the accuracy (Wilson 1927), the grey bars the share of the rows in each bin
    with their number below; the title has the ECE of `credo.metrics.classification` (15 bins, not those drawn).
    Raises ValueError as `credo.metrics.reliability`.
    """
    table = metrics.reliability(probs, y, bins)
    ece = metrics.classification(probs, y)["ece"]
    filled = table[table["count"] > 0]
    n, accuracy = filled["count"].to_numpy(), filled["accuracy"].to_numpy()
    ax = axes(ax)
    left = np.array([interval.left for interval in filled.index])
    ax.bar(left, n / n.sum(), width=1 / bins, align="edge", color=PRIOR, alpha=0.25, edgecolor="white", zorder=0)
    for x, count in zip(left, n, strict=True):
        ax.text(x + 0.5 / bins, 0.015, f"{count:,}", ha="center", fontsize="xx-small", color="0.45")
    ax.plot([0, 1], [0, 1], color=PRIOR, lw=0.8, ls="--")
    low, high = _wilson(accuracy, n)
    ax.vlines(filled["confidence"], low, high, color=FIT, lw=1.2, alpha=0.6)
    ax.plot(filled["confidence"], accuracy, "o-", color=FIT, ms=5, lw=1.5, clip_on=False)
    ax.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="confidence", ylabel="accuracy", title=f"ECE {ece:.3f}")
    return ax


def strangeness(entropies: Mapping[str, torch.Tensor], ax: "Axes | None" = None) -> "Axes":
    """Histograms of a score of strangeness, the entropy of the prediction in nats, for several sets of inputs.

    entropies: {label: shape (N,)}; the first is the familiar set, against which the AUROC of each other one is given:
        1 where every stranger is told from every familiar input, 0.5 where the classifier cannot tell at all.
    Raises ValueError for an empty mapping, and as `credo.metrics.auroc`.
    """
    if not entropies:
        raise ValueError("entropies: got none, wanted {label: tensor of shape (N,)}, the familiar set first")
    ax = axes(ax)
    values = {label: scores.detach().double().cpu() for label, scores in entropies.items()}
    familiar = next(iter(values.values()))
    low = min(0.0, *(v.min().item() for v in values.values()))
    high = max(v.max().item() for v in values.values())
    edges = np.linspace(low, high if high > low else low + 1, 31).tolist()
    colors = (FIT, *POINTS, *(f"C{i}" for i in range(10)))
    for (label, scores), color in zip(values.items(), colors, strict=False):
        if scores is not familiar:
            label = f"{label} (AUROC {metrics.auroc(familiar, scores):.2f})"
        share = np.full(len(scores), 1 / len(scores))
        ax.hist(scores.numpy(), edges, weights=share, color=color, alpha=0.3, label=label)
        ax.hist(scores.numpy(), edges, weights=share, color=color, histtype="step", lw=1.2)
    ax.margins(x=0)
    ax.set(xlabel="entropy of the prediction (nats)", ylabel="share of the inputs")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _wilson(share: np.ndarray, n: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """The interval of a binomial probability, of which this share of n was seen."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
