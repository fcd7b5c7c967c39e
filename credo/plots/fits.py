"""Plots of single scalars: their densities, their intervals beside exact ones, answers as data come in."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from credo.inference.distributions.unwrap import unwrapped
from credo.inference.importance.guide_draws import in_double
from credo.inference.posterior.marginals import marginals, priors
from credo.inference.posterior.sample import guide_draws
from credo.plots.scalars import located
from credo.plots.smooth import density
from credo.plots.style import EXACT, FIT, POINTS, PRIOR, axes, headline, legend, plus_minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from credo.inference.variational.result import Fit


def belief(
    fit: "Fit",
    site: str,
    index: tuple[int, ...] = (),
    *,
    exact: Any = None,
    points: Mapping[str, float] | None = None,
    prior: bool = True,
    ax: "Axes | None" = None,
) -> "Axes":
    """Density of one scalar of a latent under prior, fit and exact posterior; point estimates as vertical lines.

    fit: a `Fit`. site: a latent, or one of its scalars as the summary names it, such as "b[bmi]".
    index: which scalar of the site, such as (0,); () for a scalar site.
    exact: an exact posterior with `.marginals`, from `credo.exact`, `credo.reference` or the pair's `posterior`.
    points: {label: value}, such as the MAP and MLE estimates. prior: whether to draw the prior.
    ax: Axes to draw on; None makes a figure.
    Raises ValueError for a site that the fit does not have, and for a vector without the index of a scalar.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> pair = credo.load("coin_toss")
    >>> fit = credo.fit(pair.model, pair.guide, torch.tensor([1.0, 0.0, 1.0]), steps=20, compile=False, progress=False)
    >>> ax = credo.plots.belief(fit, "p", points={"MLE": 2 / 3}, ax=Figure().subplots())
    >>> [line.get_label() for line in ax.lines]
    ['prior', 'fit', 'MLE 0.6667']
    """
    of, fit = fit, in_double(fit)
    draws = guide_draws(fit, 4000)
    name = site + (str(list(index)) if index else "")
    if site in draws:
        every = located(of, {site: draws[site].shape[1:]}, site)
        name = next((label for label, at in every.items() if at == (site, index)), name)
    elif site.split("[")[0] in draws:
        ((site, index),) = located(of, {key: value.shape[1:] for key, value in draws.items()}, [site]).values()
    else:
        raise ValueError(f"site {site!r} is not a latent of this fit; wanted one of {sorted(draws)}")
    values = draws[site].double().cpu()[(slice(None), *index)]  # type: ignore[index]  # mypy: tuple of slices and ints
    if values.dim() != 1:
        raise ValueError(f"site {site!r} has shape {tuple(values.shape[1:])} at index {index}; wanted one scalar of it")
    ax = axes(ax)
    low, high = values.quantile(0.0005).item(), values.quantile(0.9995).item()
    for value in (points or {}).values():
        low, high = min(low, value), max(high, value)
    pad = 0.3 * (high - low) or 1.0
    grid = torch.linspace(low - pad, high + pad, 801, dtype=torch.float64)
    if prior:
        _curve(ax, grid, _density(priors(fit).get(site), index), color=PRIOR, label="prior", fill=True)
    fitted = _density(marginals(fit).get(site), index)
    _curve(ax, grid, fitted or _smooth(values), color=FIT, label="fit", lw=2.5)
    if exact is not None:
        _curve(ax, grid, _density(exact.marginals[site], index), color=EXACT, label="exact", ls="--", lw=1.2)
    for (label, value), color in zip((points or {}).items(), POINTS, strict=False):
        ax.axvline(value, color=color, label=f"{label} {value:.4g}", lw=1.5)
    ax.margins(x=0)
    ax.set(xlabel=name, ylabel="density", ylim=(0, None))
    before = _moments(priors(fit).get(site), index) if prior else None
    headline(
        ax,
        f"{name} is {plus_minus(values.mean().item(), values.std().item())} after the data"
        + (f", {plus_minus(*before)} before" if before else ""),
    )
    legend(ax)
    return ax


def intervals(table: pd.DataFrame, ax: "Axes | None" = None) -> "Axes":
    """Mean ± 2 sd of every scalar, of the fit and of the exact posterior: a plot of the table of `credo.compare`.

    table: what `credo.compare` returned. ax: Axes to draw on; None makes a figure.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> pair = credo.load("coin_toss")
    >>> fit = credo.fit(pair.model, pair.guide, torch.tensor([1.0, 0.0, 1.0]), steps=20, compile=False, progress=False)
    >>> ax = credo.plots.intervals(credo.compare(fit), ax=Figure().subplots())
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['p']
    """
    ax = axes(ax)
    rows = torch.arange(len(table)).numpy()
    known = "reference" if "mc error in sds" in table else "exact"  # draws of the posterior are not exact
    for shift, mean, sd, color, label in (
        (-0.12, "exact mean", "exact sd", EXACT, known),
        (0.12, "mean", "sd", FIT, "fit"),
    ):
        ax.errorbar(table[mean], rows + shift, xerr=2 * table[sd], fmt="o", ms=4, color=color, capsize=2, label=label)
    ax.set_yticks(rows, table.index)
    ax.invert_yaxis()
    low, high = ax.get_xlim()
    if low < 0 < high:
        ax.axvline(0, color=PRIOR, lw=0.8, zorder=0)
    ax.set(xlabel="mean ± 2 sd")
    error = ((table["mean"] - table["exact mean"]) / table["exact sd"]).abs().max()
    ratio = (table["sd"] / table["exact sd"] - 1).abs().max()
    if error + ratio < float("inf"):
        ones = "exact ones" if known == "exact" else "reference"
        headline(ax, f"Means within {error:.2g} sds of the {ones}, sds within {100 * ratio:.2g} %")
    legend(ax)
    return ax


def lesson(table: pd.DataFrame, ax: "Axes | None" = None) -> "Axes":
    """Predictive probability of heads by MLE, MAP and full Bayes as flips come in.

    The band is ± 2 posterior sds of p, which the point estimates do not show.

    table: what `credo.models.coin_toss.lesson` returned: a row for each number of flips; columns mle, map, bayes, sd.
    ax: Axes to draw on; None makes a figure.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> from credo.models.coin_toss import lesson
    >>> ax = credo.plots.lesson(lesson(torch.tensor([1.0, 0.0, 1.0])), ax=Figure().subplots())
    >>> [line.get_label() for line in ax.lines]
    ['MLE', 'MAP', 'full Bayes']
    """
    ax = axes(ax)
    rows = torch.arange(len(table)).numpy()
    ax.fill_between(
        rows,
        (table["bayes"] - 2 * table["sd"]).clip(0, 1),
        (table["bayes"] + 2 * table["sd"]).clip(0, 1),
        color=FIT,
        alpha=0.15,
        lw=0,
        label="± 2 sd of p",
    )
    for column, label, color, marker in (
        ("mle", "MLE", POINTS[0], "s"),
        ("map", "MAP", POINTS[1], "^"),
        ("bayes", "full Bayes", FIT, "o"),
    ):
        ax.plot(rows, table[column], color=color, marker=marker, ms=6, lw=1.5, label=label, alpha=0.9)
    ax.set_xticks(rows, [f"{n:,}" if n < 10_000 else f"{n / 1000:.0f}k" for n in table.index])
    ax.set(xlabel="flips seen", ylabel="p(next is heads)", ylim=(-0.03, 1.03))
    headline(ax, _certain(table))
    legend(ax, loc="lower right" if table["bayes"].iloc[-1] > 0.4 else "upper right")
    return ax


def _certain(table: pd.DataFrame) -> str:
    """The first row in which maximum likelihood is certain, beside full Bayes; else how far the answers are apart."""
    answers = table[["mle", "map", "bayes"]]
    for n, row in table.iterrows():
        if row["mle"] in (0, 1):
            says = "is certain of heads" if row["mle"] else "rules heads out"
            flips = f"{n:,} flip" + ("" if n == 1 else "s")
            return f"After {flips} maximum likelihood {says}; full Bayes says {plus_minus(row['bayes'], row['sd'])}"
    spread = (answers.max(axis=1) - answers.min(axis=1)).iloc[-1]
    return f"After {table.index[-1]:,} flips the answers differ by at most {spread:.2g}"


def _moments(fn: Any, index: tuple[int, ...]) -> tuple[float, float] | None:
    """(mean, sd) of one scalar of a distribution; None where it has none."""
    try:
        mean, sd = fn.mean[index].item(), fn.variance[index].sqrt().item()
    except (AttributeError, NotImplementedError, IndexError, ValueError, RuntimeError):
        return None
    return (mean, sd) if math.isfinite(mean) and math.isfinite(sd) else None


def _density(fn: Any, index: tuple[int, ...]) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The density of one scalar of a distribution; None where it has no closed form."""
    if fn is None or type(fn).__name__ == "Delta":
        return None
    if type(fn).__name__ == "Drawn":  # from `credo.reference`
        return _smooth(fn.draws.double()[(slice(None), *index)])
    name = type(unwrapped(fn)).__name__
    if name in ("Normal", "MultivariateNormal", "MultivariateStudentT"):
        mean, sd = fn.mean.double().cpu()[index], fn.variance.double().sqrt().cpu()[index]
        marginal: Any = torch.distributions.Normal(mean, sd)
        if name == "MultivariateStudentT":
            df = fn.df.double().cpu()
            marginal = torch.distributions.StudentT(df, mean, sd * ((df - 2) / df).sqrt())
        return lambda grid: marginal.log_prob(grid).exp()
    scalar = fn.event_shape == () and fn.batch_shape == () and name != "ImproperUniform"
    return partial(_inside, fn) if scalar else None


def _inside(fn: Any, grid: torch.Tensor) -> torch.Tensor:
    ok, base = fn.support.check(grid), fn
    while hasattr(base, "base_dist"):  # a transformed distribution knows its density, and often not its mean
        base = base.base_dist
    safe = torch.where(ok, grid, grid[ok].mean() if ok.any() else grid)
    return torch.where(ok, fn.log_prob(safe.to(base.mean.device)).double().cpu().exp(), 0.0)


def _smooth(values: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """A kernel density estimate, for an even grid."""
    return lambda grid: torch.as_tensor(density(values.cpu().numpy(), grid.numpy()))


def _curve(ax: "Axes", grid: torch.Tensor, density: Any, *, fill: bool = False, **style: Any) -> None:
    if density is None:
        return
    height = density(grid).detach()
    ax.plot(grid, height, **style)
    if fill:
        ax.fill_between(grid, height, color=style["color"], alpha=0.15, lw=0)
