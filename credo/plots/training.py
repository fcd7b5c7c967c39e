"""Plots of the way of a run: its loss, and where the learning rate fell."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from credo.inference.variational.result import Fit
from credo.plots.style import SERIES, SMALL, axes, headline, legend, side_by_side, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHED, BEGINNING = 50, 10  # the share of the run over which losses are averaged; that does not set the range
FEW = 1000  # points of a running mean
MARGIN = 0.1  # of the range of the losses, above and below


def losses(fit: Fit | Mapping[str, Fit] | Sequence[Fit], ax: "Axes | None" = None) -> "Axes":
    """Training curve: the loss, -ELBO in nats, at each step, and its running mean over a fiftieth of the run.

    Dotted lines mark the steps at which the learning rate fell. The last nine tenths of each run set the range of the
    axis. The headline says how the run ended. Fits of one model to the same data can be compared: a lower loss is a
    better bound of -log p(data). A fit without steps (a closed form, one normal of all latents) has no losses; the
    picture says so.

    fit: a `Fit`, or several: {label: fit}, or a list. ax: Axes to draw on; None makes a figure.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> pair = credo.load("coin_toss")
    >>> fit = credo.fit(pair.model, pair.guide, torch.tensor([1.0, 0.0, 1.0]), steps=20, compile=False, progress=False)
    >>> ax = credo.plots.losses(fit, ax=Figure().subplots())
    >>> len(ax.lines[0].get_ydata())
    20
    """
    fits = side_by_side("losses", fit)
    for label, one in fits.items():
        if not isinstance(one, Fit):
            raise ValueError(
                f"losses: {label}: got {type(one).__name__}, wanted a Fit; of a runner, svi.run(...) returns one"
            )
    ax = axes(ax)
    ranges, without = [], []
    for (label, one), color in zip(fits.items(), SERIES, strict=False):
        if not len(one.losses):
            without.append(f"{label}: {one.method}, no steps" if len(fits) > 1 else f"{one.method}: no steps")
            continue
        values = pd.Series(one.losses, index=np.arange(len(one.losses)))
        mean = values.rolling(max(1, len(values) // SMOOTHED), min_periods=1).mean()
        ax.plot(values, color=color, alpha=0.25, lw=0.6)
        few = mean.iloc[:: max(1, len(mean) // FEW)]  # enough for a mean over a fiftieth of the run
        ax.plot(few, color=color, lw=1.5, marker="o" if len(values) == 1 else "", label=label)
        for step in one.falls:
            ax.axvline(step, color=color, lw=0.9, ls=":", zorder=0)
        settled = mean[len(mean) // BEGINNING :]
        ranges.append((settled.min(), settled.max()))
    if ranges and (low := min(low for low, _ in ranges)) < (high := max(high for _, high in ranges)):
        ax.set_ylim(low - MARGIN * (high - low), high + MARGIN * (high - low))
    if not ranges:
        ax.text(0.5, 0.5, "\n".join(without), transform=ax.transAxes, ha="center", va="center", fontsize=SMALL)
        ax.set(xticks=[], yticks=[])
    falls = any(one.falls for one in fits.values())
    if ranges and (falls or len(fits) > 1):
        labels = ["the learning rate falls"] if falls else []
        for words, style in (*((words, ":") for words in labels), *((words, "") for words in without)):
            ax.plot([], [], color="0.4", lw=0.9, ls=style, label=words)
        handles, names = ax.get_legend_handles_labels()
        skipped = 1 if len(fits) == 1 else 0  # one fit needs no name
        legend(ax, handles=handles[skipped:], labels=names[skipped:])
    ax.set(xlabel="step", ylabel="−ELBO (nats)")
    if ranges:
        thousands(ax.xaxis, ax.yaxis)
    if len(fits) == 1:
        headline(ax, _ended(next(iter(fits.values()))))
    return ax


def _ended(fit: Fit) -> str:
    """How a run ended, after how many steps, and at which loss."""
    how = fit.stopped.split(":")[0]
    how = how[:1].upper() + how[1:]
    if not fit.losses:
        return how
    after = "" if "step" in how else f" after {len(fit.losses):,} steps"
    return f"{how}{after}: −ELBO {fit.final_loss:,.{1 if abs(fit.final_loss) >= 100 else 3}f} nats".replace(" -", " −")
