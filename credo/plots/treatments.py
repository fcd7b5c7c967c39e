"""A dot plot of `credo.compare_treatments`: a panel for each score and cost, the best marked."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from credo.plots.style import FIT, PRIOR, SMALL, empty_figure, lines, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Column: (its words, whether more is better or None for a value that is wanted, whether the axis is logarithmic).
PANELS: dict[str, tuple[str, bool | None, bool]] = {
    "error": ("error (%)", False, False),
    "rmse": ("RMSE", False, False),
    "nll": ("NLL (nats per row)", False, False),
    "ece": ("ECE", False, False),
    "brier": ("Brier score", False, False),
    "ood_auroc": ("OOD AUROC", True, False),
    "coverage": ("in the 90 % interval (%)", None, False),
    "train_seconds": ("seconds to train", False, True),
    "predict_seconds": ("seconds to predict", False, True),
    "megabytes": ("megabytes", False, True),
}
PERCENT = ("error", "coverage")
WANTED = 90.0  # percent: the coverage that is best
ACROSS = 4  # panels side by side
POINTS_ROW = "points"  # the plain network, whose value is a line through each panel
LETTERS = 22  # of the name of a treatment


def treatments(table: pd.DataFrame, figure: "Figure | None" = None) -> "Figure":
    """A dot plot of a table of treatments: a panel for each score and cost, a row for each treatment, the best in blue.

    The best has the lowest value; the highest AUROC; the coverage nearest to 90 %. Its value is written beside it. A
    dashed line is the plain network, "points", if the table has it. Seconds and megabytes have logarithmic axes. A
    treatment that raised has no points. The headline says who has the lowest NLL.

    table: what `credo.compare_treatments` returned, or a part of its rows and columns.
    figure: a Figure or SubFigure to draw on; None makes one, as high as the rows need.
    Raises ValueError for a table without any of these columns, and for one without a number.

    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"error": [0.03, 0.02], "nll": [0.2, 0.1]}, index=["points", "mean_field"])
    >>> figure = credo.plots.treatments(table, figure=Figure())
    >>> " ".join(figure.get_suptitle().split())
    'mean_field has the lowest NLL: 0.1 nats a row, against 0.2 of points'
    """
    if not isinstance(table, pd.DataFrame) or not (names := [name for name in PANELS if name in table.columns]):
        what = list(table.columns) if isinstance(table, pd.DataFrame) else type(table).__name__
        raise ValueError(f"table: got {what}, wanted what credo.compare_treatments returns: columns {list(PANELS)}")
    values = table[names].astype(float)
    values[[name for name in PERCENT if name in names]] *= 100
    names = [name for name in names if np.isfinite(values[name]).any()]
    if not names:
        raise ValueError("table: no treatment has a number; each of them raised, see table.attrs['words']")
    down = math.ceil(len(names) / ACROSS)
    across = math.ceil(len(names) / down)
    figure = empty_figure(figure, (2.2 + 2.1 * across, 0.9 + down * (0.75 + 0.24 * max(3, len(values)))))
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for ax, name in zip(grid.flat, names, strict=False):
        _panel(ax, values[name], name)
    for ax in list(grid.flat)[len(names) :]:
        ax.set_axis_off()
    grid[0, 0].set_yticks(range(len(values)), [shortened(str(row), LETTERS) for row in values.index])
    grid[0, 0].set_ylim(len(values) - 0.4, -0.6)
    figure.suptitle(lines(_reading(table), 2.1 * across), fontsize=SMALL + 2)
    return figure


def _panel(ax: "Axes", column: pd.Series, name: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    words, _, logarithmic = PANELS[name]
    at, best = np.arange(len(column)), _best(column, name)
    if POINTS_ROW in column.index and np.isfinite(column[POINTS_ROW]):
        ax.axvline(column[POINTS_ROW], color=PRIOR, lw=0.9, ls="--", zorder=0)
    if name == "coverage":
        ax.axvline(WANTED, color="black", lw=0.9, zorder=0)
    colors = [FIT if row == best else "0.45" for row in range(len(column))]
    ax.scatter(column, at, s=[45 if row == best else 22 for row in range(len(column))], c=colors, zorder=3)
    finite = column[np.isfinite(column)]
    right = column.iloc[best] > _middle(finite, logarithmic)
    ax.annotate(
        f"{column.iloc[best]:.3g}",
        (column.iloc[best], best),
        (-6 if right else 6, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        va="center",
        color=FIT,
        fontsize=SMALL,
    )
    if logarithmic and (finite > 0).all() and finite.max() > 3 * finite.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1,) if finite.max() > 100 * finite.min() else (1, 3)))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(x=0.12)
    ax.grid(axis="y", color="0.92", lw=0.8)
    ax.set_axisbelow(True)
    ax.set_xlabel(words, fontsize=SMALL)
    ax.tick_params(labelsize=SMALL)
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "right", "top"]].set_visible(False)


def _best(column: pd.Series, name: str) -> int:
    """The place of the best value: the first one, if several are equal."""
    more = PANELS[name][1]
    loss = (column - WANTED).abs() if more is None else -column if more else column
    return int(np.nanargmin(loss.where(np.isfinite(column)).to_numpy()))


def _middle(finite: pd.Series, logarithmic: bool) -> float:
    low, high = finite.min(), finite.max()
    return float((low * high) ** 0.5 if logarithmic and low > 0 else (low + high) / 2)


def _reading(table: pd.DataFrame) -> str:
    """Who has the lowest NLL, beside the plain network; nothing where the table has no NLL."""
    if "nll" not in table.columns or not np.isfinite(table["nll"]).any():
        return f"{len(table)} treatments of one network"
    best = table["nll"].astype(float).idxmin()
    words = f"{best} has the lowest NLL: {table.loc[best, 'nll']:.3g} nats a row"
    if POINTS_ROW in table.index and best != POINTS_ROW and np.isfinite(table.loc[POINTS_ROW, "nll"]):
        words += f", against {table.loc[POINTS_ROW, 'nll']:.3g} of {POINTS_ROW}"
    return words
