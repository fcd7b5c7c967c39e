"""Plots of a classifier: calibration, and out-of-distribution detection."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from credo import metrics
from credo.plots.style import FIT, POINTS, PRIOR, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def reliability(probs: torch.Tensor, y: torch.Tensor, ax: "Axes | None" = None, *, bins: int = 10) -> "Axes":
    """Reliability diagram: accuracy against mean confidence in equal bins of confidence.

    A calibrated classifier lies on the diagonal, accuracy = confidence. The lines are 95 % intervals of the accuracy
    (Wilson 1927). The grey bars show the share of the rows in each bin, with their number below. The title states the
    expected calibration error of `credo.metrics.classification`, which has 15 bins whatever `bins` is.

    probs: shape (N, C), or (S, N, C) with S draws, which are averaged. y: shape (N,), classes from 0.
    ax: Axes to draw on; None makes a figure. bins: number of bins. Raises ValueError as `credo.metrics.reliability`.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> probs = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> ax = credo.plots.reliability(probs, torch.tensor([0, 1, 1]), ax=Figure().subplots())
    >>> ax.get_title()
    'ECE 0.300'
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
    """Out-of-distribution detection: histograms of the entropy of the prediction for several sets of inputs.

    The legend states the AUROC of each set against the first (`credo.metrics.auroc`): 1 if every one of its inputs has
    a higher entropy than every input of the first set, 0.5 if entropy does not separate the two sets.

    entropies: {label: shape (N,), nats}; the first set is like the training data.
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
    values = {label: scores.detach().double().cpu() for label, scores in entropies.items()}
    first = next(iter(values.values()))
    low = min(0.0, *(v.min().item() for v in values.values()))
    high = max(v.max().item() for v in values.values())
    edges = np.linspace(low, high if high > low else low + 1, 31).tolist()
    colors = (FIT, *POINTS, *(f"C{i}" for i in range(10)))
    for (label, scores), color in zip(values.items(), colors, strict=False):
        if scores is not first:
            label = f"{label} (AUROC {metrics.auroc(first, scores):.2f})"
        share = np.full(len(scores), 1 / len(scores))
        ax.hist(scores.numpy(), edges, weights=share, color=color, alpha=0.3, label=label)
        ax.hist(scores.numpy(), edges, weights=share, color=color, histtype="step", lw=1.2)
    ax.margins(x=0)
    ax.set(xlabel="entropy of the prediction (nats)", ylabel="share of the inputs")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _wilson(share: np.ndarray, n: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of a binomial probability, given the observed share of n trials and the normal quantile z."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
