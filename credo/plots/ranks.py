"""The picture of simulation-based calibration: how far ranks are from uniform ones."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from credo.inference.distributions.uniformity import bands
from credo.plots.style import EXACT, FIT, POINTS, PRIOR, SMALL, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from credo.inference.calibration.calibration import Calibration

OUTSIDE = 0.05  # of the joint p-value, below which a line leaves the band
NAMED = 4  # lines that are named
ENTRY = 0.1  # of the height, for an entry of the legend


def ranks(calibration: "Calibration", ax: "Axes | None" = None) -> "Axes":
    """A line for each scalar: the share of true values below a fraction of the draws, less that fraction.

        F(v) - v,   F the empirical distribution of the ranks, v = k / (L + 1),   k = 0, ..., L + 1

    If the posteriors are right, all lines stay in the band together in 95 of 100 calibrations. A hill says that draws
    are too high, a valley that they are too low; a hill and then a valley, that they are too narrow; a valley and then
    a hill, that they are too wide. Lines that leave the band have a colour, and the legend names them.

    calibration: what `credo.calibrate` returns. ax: Axes to draw on; None makes a figure.
    Source: Säilynoja, Bürkner and Vehtari 2022.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> pair = credo.load("coin_toss")
    >>> found = credo.calibrate(pair.model, "full_rank", torch.ones(7), simulations=50)
    >>> ax = credo.plots.ranks(found, ax=Figure().subplots())
    >>> len(ax.lines)  # p, log likelihood, log prior, and zero
    4
    """
    ax, table, L, S = axes(ax), calibration.table, calibration.draws, len(calibration.ranks)
    band = bands(S, L, 1 - OUTSIDE / len(table))
    at = np.arange(1, L + 1) / (L + 1)
    low, high = (counts.numpy() / S - at for counts in band)
    ax.fill_between(at, low, high, color=PRIOR, alpha=0.25, lw=0, zorder=0)
    ax.axhline(0, color=EXACT, lw=0.8, ls=":", zorder=0)
    outside = [name for name in table.index if len(table) * table.loc[name, "p_value"] < OUTSIDE]
    colours = dict(zip(outside[:NAMED], (POINTS[0], FIT, *POINTS[1:]), strict=False))
    for name in reversed(table.index):
        counts = torch.bincount(torch.tensor(calibration.ranks[name].to_numpy()), minlength=L + 1).cumsum(0)[:-1]
        line = np.concatenate([[0.0], counts.numpy() / S - at, [0.0]])
        label = f"{name}: {table.loc[name, 'reading']}" if name in colours else None
        style = {"color": colours[name], "lw": 1.6} if name in colours else {"color": "0.35", "lw": 0.7, "alpha": 0.7}
        ax.plot(np.concatenate([[0.0], at, [1.0]]), line, label=label, **style)
    bottom, top = (float(limit) for limit in ax.get_ylim())
    if colours:
        more = len(outside) - len(colours)
        handles, labels = ax.get_legend_handles_labels()
        if more:
            handles, labels = [ax.plot([], color="0.35", lw=0.7)[0], *handles], [f"and {more} more", *labels]
        ax.legend(handles[::-1], labels[::-1], frameon=False, fontsize=SMALL, loc="upper left")
        top += ENTRY * len(labels) * (top - bottom)  # room for the legend
    verdict = calibration.words.replace(":", ",").split(",")[0]
    title = f"{verdict} (p = {calibration.p_value:.2g})"
    ax.set(xlim=(0, 1), ylim=(bottom, top), xlabel="fraction of the draws, v", title=title)
    ax.set_ylabel("share of true values below, less v")
    return ax
