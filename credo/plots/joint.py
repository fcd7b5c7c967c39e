"""Plots of draws: a matrix of scatter plots of a few scalars, and the chains of a reference."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from credo.inference.mcmc.diagnostics import mixing
from credo.inference.mcmc.result import Reference
from credo.plots.scalars import Scalars, at_least_one, located
from credo.plots.smooth import density
from credo.plots.style import EXACT, POINTS, PRIOR, SERIES, SMALL, empty_figure, shortened, side_by_side

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, LETTERS = 1.9, 20  # inches of a panel; characters of the name beside it
OUTER = 0.005  # of the draws, on each side, that do not set the range of an axis
BINS = 20  # of ranks


def pairs(
    fit: Any,
    names: str | Sequence[str] | None = None,
    figure: "Figure | None" = None,
    *,
    n: int = 1000,
    corrected: int = 0,
    most: int = 5,
    seed: int = 0,
) -> "Figure":
    """Scatter plots of each two of a few scalars, and the density of each: the joint posterior, two scalars at a time.

    fit: a `Fit`, an `Exact` or a `Reference`; or several: {label: one of these}, or a list. An exact posterior and a
        reference are black.
    names: sites ("b"), or scalars as the summary names them ("b[0]"); None takes the first that are not constant.
    n: number of draws of each. corrected: number of draws of `fit.corrected`, drawn over those of one fit: where they
        lie elsewhere, the guide is wrong. most: scalars that are drawn. seed: of the draws.
    figure: a Figure or SubFigure to draw in; None makes one. Returns the Figure; in a notebook end the line with `;`.
    Raises ValueError for a name that is no site and no scalar, for more names than `most`, and as `fit.corrected`.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> pair, x = credo.load("linear_regression"), torch.linspace(-1, 1, 20)[:, None]
    >>> fit = credo.fit(pair.model, None, x, 2 * x[:, 0])
    >>> len(credo.plots.pairs(fit, n=100, figure=Figure()).axes)  # two densities and a scatter plot
    3
    """
    given = side_by_side("pairs", fit)
    for label, one in given.items():
        if not hasattr(one, "sample"):
            raise ValueError(f"pairs: {label}: got {type(one).__name__}, wanted a Fit, an Exact or a Reference")
    first = next(iter(given.values()))
    drawn = {label: one.sample(n, seed=seed) for label, one in given.items()}
    if corrected:
        if len(given) > 1:
            raise ValueError("corrected: got several fits, wanted one, whose corrected draws are compared with its own")
        drawn["corrected"] = first.corrected(corrected, seed=seed)
    sample = next(iter(drawn.values()))
    found = located(first, {site: v.shape[1:] for site, v in sample.items()}, names)
    if names is None:
        found = {name: at for name, at in found.items() if _moves(_column(sample, *at))} or found
    elif len(found) > most:
        raise ValueError(f"names: got {len(found)} scalars, wanted at most {most}; most={len(found)} draws them all")
    shown = list(found)[: at_least_one("most", most)]
    columns = {
        label: [_column(values, *found[name]) for name in shown if found[name][0] in values]
        for label, values in drawn.items()
    }
    if short := [label for label, values in columns.items() if len(values) < len(shown)]:
        raise ValueError(f"names: {short[0]} does not have all of {', '.join(shown)}")
    colors = dict(zip(drawn, SERIES, strict=False)) | ({"corrected": POINTS[0]} if corrected else {})
    colors |= {label: EXACT for label, one in given.items() if type(one).__name__ in ("Exact", "Reference")}
    figure = empty_figure(figure, (1 + PANEL * max(2, len(shown)), 0.6 + PANEL * max(1.5, len(shown))))
    _panels(figure, [shortened(name, LETTERS) for name in shown], columns, colors)
    if len(shown) > 1 and (words := _correlation(shown, next(iter(columns.values())))):
        figure.suptitle(words, fontsize=SMALL + 2)
    return figure


def _correlation(names: Sequence[str], columns: list[np.ndarray]) -> str:
    """The two scalars with the strongest correlation, and its value; nothing where a scalar is constant."""
    if not all(map(_moves, columns)):
        return ""
    found = np.corrcoef(columns)
    i, j = divmod(int(np.abs(np.tril(found, -1)).argmax()), len(names))
    first, second = shortened(names[j], LETTERS), shortened(names[i], LETTERS)
    return f"Strongest correlation: {found[i, j]:.2f}, {first} and {second}".replace(": -", ": −")


def chains(
    reference: Reference, names: str | Sequence[str] | None = None, figure: "Figure | None" = None, *, most: int = 5
) -> "Figure":
    """The chains of a reference: a row for each scalar, with its draws in their order and the ranks of each chain.

    Left, chains that mix look like the same noise. Right, the histogram of the ranks that the draws of a chain have
    among all draws, relative to the uniform distribution, 1: chains that disagree have slopes or hills. The grey band
    holds a bar in 95 of 100 cases, given the effective sample sizes of the single chains. The scalar with the largest
    R-hat comes first.

    reference: what `credo.reference` returned, or `error.reference`. names: sites ("b"), or scalars as the summary
        names them ("b[0]"). most: scalars that are drawn.
    figure: a Figure or SubFigure to draw in; None makes one. Returns the Figure; in a notebook end the line with `;`.
    Raises ValueError for a name that is no site and no scalar.
    Source: Vehtari et al. 2021, section 4.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> draws = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
    >>> found = credo.Reference({"z": draws}, (0, 0, 0, 0), "all asked for", seed=0, finite={})
    >>> len(credo.plots.chains(found, figure=Figure()).axes)
    2
    """
    if not isinstance(reference, Reference):
        raise ValueError(
            f"reference: got {type(reference).__name__}, which has no chains; wanted what credo.reference returned"
        )
    values = reference.draws | reference.deterministic
    if names is None:
        values = {site: v for site, v in values.items() if site in reference.mixing}
    found = located(reference, {site: v.shape[2:] for site, v in values.items()}, names)
    mixed = _mixed(reference, found) if names is None else _mixed_again(values, found)
    shown = sorted(found, key=lambda name: -np.nan_to_num(mixed[name][0], nan=-1.0))[: at_least_one("most", most)]
    figure = empty_figure(figure, (9, 0.6 + 2.0 * len(shown)))
    grid = figure.subplots(len(shown), 2, squeeze=False, width_ratios=(3, 2))
    for (left, right), name in zip(grid, shown, strict=True):
        site, index = found[name]
        of_chains = _column(values, site, (slice(None), *index))
        rhat, ess = mixed[name]
        _ranks(right, of_chains)
        for draws, color in zip(of_chains, _colors(len(of_chains)), strict=True):
            left.plot(draws, color=color, lw=0.5, alpha=0.8)
        left.margins(x=0)
        left.set_ylabel(shortened(name, LETTERS))
        right.set_title(f"R-hat {rhat:.3f}, ESS {ess:,.0f}", fontsize=SMALL + 1)
    grid[-1, 0].set_xlabel("draw")
    grid[-1, 1].set_xlabel("rank")
    count, n = next(iter(values.values())).shape[:2]
    few = f"; {len(shown)} of {len(found):,} scalars" if len(shown) < len(found) else ""
    words = f"{count} chains of {n:,} draws, {sum(reference.divergences):,} divergences{few}"
    figure.suptitle(words, fontsize=SMALL + 2)
    return figure


def _mixed(reference: Reference, found: Scalars) -> dict[str, tuple[float, float]]:
    """{scalar: (R-hat, effective sample size)}, of what the reference knows already."""
    known = reference.mixing
    return {name: (known[site].rhat[at].item(), known[site].ess[at].item()) for name, (site, at) in found.items()}


def _mixed_again(values: Mapping[str, torch.Tensor], found: Scalars) -> dict[str, tuple[float, float]]:
    """The same, of these scalars alone."""
    every = np.stack([_column(values, site, (slice(None), *at)) for site, at in found.values()], -1)
    some = mixing(torch.as_tensor(every))
    return dict(zip(found, zip(some.rhat.tolist(), some.ess.tolist(), strict=True), strict=True))


def _column(draws: Mapping[str, torch.Tensor], site: str, index: tuple[Any, ...]) -> np.ndarray:
    every: tuple[Any, ...] = (slice(None), *index)
    return np.asarray(draws[site].detach().cpu()[every].double())


def _moves(values: np.ndarray) -> bool:
    return bool(np.ptp(values) > 0)


def _panels(
    figure: "Figure", names: list[str], columns: Mapping[str, list[np.ndarray]], colors: Mapping[str, str]
) -> None:
    """The lower triangle of panels: densities on the diagonal, scatter plots below it."""
    k = len(names)
    grid = figure.add_gridspec(k, k)
    limits = [_limits([values[i] for values in columns.values()]) for i in range(k)]
    for i in range(k):
        for j in range(i + 1):
            ax = figure.add_subplot(grid[i, j])
            for label, values in columns.items():
                if i == j:
                    at = np.linspace(*limits[i], 200)
                    ax.plot(at, density(values[i], at), color=colors[label], lw=1.5, label=label)
                else:
                    alpha = 0.3 if len(values[i]) > 200 else 0.6
                    ax.plot(values[j], values[i], ".", color=colors[label], label=label, ms=3, mew=0, alpha=alpha)
            ax.set_xlim(limits[j])
            ax.set_ylim(*((0, None) if i == j else limits[i]))
            ax.locator_params(nbins=4)
            ax.tick_params(labelsize=SMALL, labelbottom=i == k - 1, labelleft=0 == j < i)
            if i == j:
                ax.set_yticks([])
            if i == k - 1:
                ax.set_xlabel(names[j])
            if j == 0 and (i or k == 1):
                ax.set_ylabel(names[i] if i else "density")
    if len(columns) > 1:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        place = {"loc": "upper right", "bbox_to_anchor": (1, 0.9)} if len(names) > 1 else {"loc": "upper right"}
        figure.legend(handles, labels, frameon=False, fontsize=SMALL, **place)


def _limits(several: list[np.ndarray]) -> tuple[float, float]:
    """The range of most draws, with a margin: heavy tails do not set the axis."""
    values = np.concatenate(several)
    low, high = np.quantile(values, [OUTER, 1 - OUTER])
    pad = 0.2 * (high - low) or abs(high) or 1.0
    return float(low - pad), float(high + pad)


def _ranks(ax: "Axes", of_chains: np.ndarray) -> None:
    """Histograms of ranks, a line for each chain. of_chains: (chains, draws)."""
    ess = float(np.mean([mixing(torch.as_tensor(own)[None]).ess.item() for own in of_chains]))  # within the chains
    noise = np.random.default_rng(0).random(of_chains.size)  # equal draws share their ranks at random
    ranks = np.lexsort((noise, of_chains.ravel())).argsort().reshape(of_chains.shape)
    edges = np.linspace(0, of_chains.size, BINS + 1)
    half = 1.96 * np.sqrt((BINS - 1) / max(ess, 1.0)) if np.isfinite(ess) else 0.0
    ax.axhspan(max(0.0, 1 - half), 1 + half, color=PRIOR, alpha=0.3, lw=0, zorder=0)
    for own, color in zip(ranks, _colors(len(ranks)), strict=True):
        ax.stairs(np.histogram(own, edges)[0] * BINS / own.size, edges, color=color, lw=1.2, alpha=0.9)
    ax.set(xlim=(0, of_chains.size), ylim=(0, max(2.0, ax.get_ylim()[1])))


def _colors(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]
