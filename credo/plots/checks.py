"""Plots of predictions beside the data: posterior predictive check, PIT histogram, coverage of intervals.

Each takes predictive draws and the true values, or a fit, whose own data are then predicted.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from credo.metrics.draws import CHUNK, pit_distribution, predictive
from credo.plots.observations import Posterior, observations
from credo.plots.scalars import at_least_one
from credo.plots.smooth import density
from credo.plots.style import FIT, PRIOR, SMALL, axes, headline, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DATA = "0.15"  # the colour of observations
TAIL = 0.05  # share of the drawn data sets with a larger (a smaller) sd or mean than the data: with fewer it is said
MANY = 40  # different counts that have a bar each
SPAN, FAR = 0.3, 5.0  # of the range of the data: shown below and above it; shown at most, where draws lie there
SHARP = 4  # times the height of the lower of two densities, data and draws, that is shown
GRID = 400  # points of a density


def ppc(
    draws: Any,
    y: Any = None,
    ax: "Axes | None" = None,
    *,
    kind: Literal["density", "histogram", "ecdf", "bars"] | None = None,
    site: str | None = None,
    n: int = 50,
    seed: int = 0,
) -> "Axes":
    """Posterior predictive check: the distribution of the data beside those of data sets that the fit predicts.

    If the model is right, the data look like one of the drawn data sets. kind: "density", smoothed, a line for each
    data set; "ecdf", the share of values below v; "histogram", with the mean and the 90 % interval of the drawn data
    sets in each bin; "bars", the same for each value of a count. None takes bars for few different counts, ecdf for
    many, and density for real numbers. The range of the data, and a little more, is shown.

    draws: a `Fit`, an `Exact` or a `Reference`, or draws of shape (S, *shape of y), such as
        `fit.predict(50, x_new)["y"]`. y: the data; with a fit they are its own. site: which observed site of the fit,
        if there are several. n: number of data sets that are drawn, the first of `draws`. seed: of the draws of a fit.
        ax: Axes to draw on; None makes a figure.
    Raises ValueError as `credo.metrics.coverage`, and for a site that is not observed.
    Source: Gelman, Meng and Stern 1996; Gabry et al. 2019.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> ax = credo.plots.ppc(torch.randn(20, 100), torch.randn(100), ax=Figure().subplots())
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['data', '20 predicted']
    """
    name, predicted, data = _predicted(draws, y, site, at_least_one("n", n), seed, fewest=1)
    x, truth = (
        np.asarray(values.double()) for values in (predicted[:n].reshape(len(predicted[:n]), -1), data.flatten())
    )
    counts = bool((x == np.round(x)).all() and (truth == np.round(truth)).all())
    if kind is None:
        kind = "density" if not counts else "bars" if np.ptp(truth) < MANY else "ecdf"
    ax = axes(ax)
    low, high = _range(x, truth)
    if kind == "density":
        grid = np.linspace(low, high, GRID)
        drawn, of_data = [density(row, grid) for row in x], density(truth, grid)
        _lines(ax, [(grid, heights) for heights in drawn], (grid, of_data))
        lower, higher = sorted((max(map(np.max, drawn)), of_data.max()))
        ax.set(ylabel="density", ylim=(0, 1.05 * (min(higher, SHARP * lower) or higher)))
    elif kind == "ecdf":
        _lines(ax, [_steps(row, low, high) for row in x], _steps(truth, low, high), drawstyle="steps-post")
        ax.set(ylabel="share of the values below", ylim=(0, 1.02))
    elif kind in ("histogram", "bars"):
        edges = np.arange(np.floor(low), np.ceil(high) + 2) - 0.5 if kind == "bars" else _edges(truth, low, high)
        _bars(ax, x, truth, edges, 0.8 if kind == "bars" else 1.0)
    else:
        raise ValueError(f"kind: got {kind!r}, wanted 'density', 'histogram', 'ecdf', 'bars', or None")
    ax.set(xlabel=name, xlim=(low - 0.5, high + 0.5) if kind == "bars" else (low, high))
    if len(x) > 1 and truth.size > 1:
        headline(ax, _spread(x, truth))
    legend(ax)
    return ax


def _spread(x: np.ndarray, truth: np.ndarray) -> str:
    """The sd of the data, or else their mean, among those of the drawn data sets."""
    words = {"std": ("The data vary more than", "The data vary less than")}
    words["mean"] = ("The mean of the data is higher than in", "The mean of the data is lower than in")
    for statistic, sides in words.items():
        drawn, data = getattr(x, statistic)(1), float(getattr(truth, statistic)())
        for side, share in zip(sides, (float((drawn < data).mean()), float((drawn > data).mean())), strict=True):
            if share > 1 - TAIL:
                return f"{side} {100 * share:.0f} % of the predicted data sets"
    return "The data vary as much as the predicted data sets"


def pit(
    draws: Any,
    y: Any = None,
    ax: "Axes | None" = None,
    *,
    bins: int = 20,
    site: str | None = None,
    n: int = 1000,
    seed: int = 0,
) -> "Axes":
    """Histogram of the probability integral transform, `credo.metrics.pit`: flat if predictions are calibrated.

    Heights are relative to the uniform distribution, 1. The grey band holds each bar in 95 of 100 cases. A hill in the
    middle means that predictions are too wide, a valley that they are too narrow, a slope that they are too low (up to
    the right) or too high. Of counts the bars are averages over the random part.

    draws, y, site, seed, ax: as for `ppc`, with its errors. bins: their number. n: draws of a fit. The data that a fit
        was fitted to are predicted a little too well; held-out rows are the better check.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> ax = credo.plots.pit(torch.randn(100, 500), torch.randn(500), ax=Figure().subplots(), bins=10)
    >>> ax.get_title().startswith("500 values"), ax.get_xlabel()
    (True, 'PIT of y')
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins: got {bins!r}, wanted a whole number, at least 1")
    name, x, truth = _predicted(draws, y, site, n, seed)
    v, below = pit_distribution(x, truth)
    edges = np.linspace(0, 1, bins + 1)
    heights = np.diff(np.interp(edges, v, below)) * bins
    ax = axes(ax)
    ax.bar(edges[:-1], heights, width=1 / bins, align="edge", color=FIT, alpha=0.75, edgecolor="white")
    low, high = (float(bins * share) for share in _binomial(1 / bins, truth.numel()))
    ax.axhspan(low, high, color=PRIOR, alpha=0.35, lw=0, zorder=0)
    ax.axhline(1, color=PRIOR, lw=0.8)
    ax.set(xlim=(0, 1), ylim=(0, max(2, 1.05 * heights.max(), 1.1 * high)))
    ax.set(xlabel=f"PIT of {name}", ylabel="density")
    outside = int(((heights < low) | (heights > high)).sum())
    headline(ax, f"{truth.numel():,} values, {outside} of {bins} bars outside of the band")
    return ax


def coverage(
    draws: Any, y: Any = None, ax: "Axes | None" = None, *, site: str | None = None, n: int = 1000, seed: int = 0
) -> "Axes":
    """Coverage curve: the share of the data inside of central predictive intervals, against their probability.

    Calibrated predictions lie on the diagonal; below it intervals are too narrow, above it too wide. The grey band
    holds each point in 95 of 100 cases. The points are those of `credo.metrics.regression`: 50 %, 90 % and 95 %.

    draws, y, site, n, seed, ax: as for `pit`, with its errors.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> ax = credo.plots.coverage(torch.randn(100, 500), torch.randn(500), ax=Figure().subplots())
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('probability of the interval', 'share of y inside')
    """
    name, x, truth = _predicted(draws, y, site, n, seed)
    v, below = pit_distribution(x, truth)
    levels = np.linspace(0, 1, 101)
    inside = np.interp(0.5 + levels / 2, v, below) - np.interp(0.5 - levels / 2, v, below)
    ax = axes(ax)
    ax.fill_between(levels, *_binomial(levels, truth.numel()), color=PRIOR, alpha=0.35, lw=0, zorder=0)
    ax.plot([0, 1], [0, 1], color=PRIOR, lw=0.8, ls="--")
    ax.plot(levels, inside, color=FIT, lw=2)
    for level in (0.5, 0.9, 0.95):
        at = inside[round(100 * level)]
        ax.plot(level, at, "o", color=FIT, ms=5)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="probability of the interval", ylabel=f"share of {name} inside")
    shares = ", ".join(f"{level:.0%}: {inside[round(100 * level)]:.1%}" for level in (0.5, 0.9, 0.95))
    ax.set_title(shares, fontsize=SMALL + 1)
    return ax


def _predicted(
    draws: Any, y: Any, site: str | None, n: int, seed: int, fewest: int = 4
) -> tuple[str, torch.Tensor, torch.Tensor]:
    """(name, draws, data) of a fit, or of draws and data. Values that a fit has masked are left out."""
    if not isinstance(draws, Posterior):
        if y is None:
            raise ValueError(f"y: got None, wanted the data beside the draws ({type(draws).__name__}), or a Fit alone")
        return site or "y", *predictive(draws, y, fewest)
    if y is not None:
        raise ValueError('y: a fit has its own data; for other rows pass the draws: fit.predict(1000, x_new)["y"], y')
    sites = observations(draws)
    if site is None and len(sites) == 1:
        site = next(iter(sites))
    if site not in sites:
        raise ValueError(f"site: got {site!r}, wanted one of the observed sites {', '.join(map(repr, sites))}")
    truth = sites[site][1]
    x = draws.predict(n, seed=seed)[site].detach().cpu()
    there = truth.isfinite()
    return site, *predictive(x[:, there], truth[there], fewest)


def _range(x: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The range of the data, and of most draws unless they are far away: heavy tails do not set the axis."""
    low, high = truth.min(), truth.max()
    some = x[:, : max(1, CHUNK // len(x))]
    span = high - low or np.ptp(np.quantile(some, [0.05, 0.95])) or abs(high) or 1.0
    least, most = np.quantile(some, [0.05, 0.95])
    bottom, top = max(x.min(), min(low - SPAN * span, least)), min(x.max(), max(high + SPAN * span, most))
    bottom, top = min(low, max(bottom, low - FAR * span)), max(high, min(top, high + FAR * span))
    return (float(bottom), float(top)) if bottom < top else (bottom - span / 2, top + span / 2)


def _steps(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """The empirical distribution function, as the places of its steps and its heights from there on."""
    ordered = np.sort(values)
    at = ordered if len(ordered) <= GRID else np.linspace(low, high, GRID)
    at = np.concatenate([[low], at[(at > low) & (at < high)], [high]])
    return at, np.searchsorted(ordered, at, side="right") / len(ordered)


def _edges(truth: np.ndarray, low: float, high: float) -> np.ndarray:
    inside = np.histogram_bin_edges(truth, "auto")
    count = int(np.clip(round((high - low) / (inside[1] - inside[0])), 5, 60))
    return np.linspace(low, high, count + 1)


def _lines(ax: "Axes", drawn: Sequence[tuple[Any, Any]], data: tuple[Any, Any], **of: Any) -> None:
    for x, y in drawn:
        ax.plot(x, y, color=FIT, lw=0.8, alpha=min(1.0, max(0.15, 8 / len(drawn))), **of)
    ax.plot(*data, color=DATA, lw=2, label="data", **of)
    ax.plot([], [], color=FIT, lw=1, label=f"{len(drawn)} predicted")


def _bars(ax: "Axes", x: np.ndarray, truth: np.ndarray, edges: np.ndarray, width: float) -> None:
    """The share of the data in each bin as bars; mean and 90 % interval over the drawn data sets."""
    shares = np.stack([np.histogram(row, edges)[0] for row in x]) / x.shape[1]
    middle = (edges[1:] + edges[:-1]) / 2
    data = np.histogram(truth, edges)[0] / len(truth)
    ax.bar(middle, data, width * np.diff(edges), color=PRIOR, alpha=0.5, label="data")
    low, high = np.quantile(shares, [0.05, 0.95], axis=0)
    ax.vlines(middle, low, high, color=FIT, lw=2, alpha=0.7)
    ax.plot(middle, shares.mean(0), "o", color=FIT, ms=5, label=f"{len(x)} predicted, 90 %")
    ax.set(ylabel="share of the values", ylim=(0, None))


def _binomial(p: Any, n: int, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % band of the share of n trials with probability p, from 0 to 1, by the normal approximation."""
    half = z * np.sqrt(np.asarray(p) * (1 - np.asarray(p)) / n)
    return np.clip(p - half, 0, 1), np.clip(p + half, 0, 1)
