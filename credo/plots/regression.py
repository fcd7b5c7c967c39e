"""The plot of a regression: predictions, their intervals and the data, along one axis."""

from typing import TYPE_CHECKING, Any

import pandas as pd
import pyro.distributions as dist
import torch
from torch.distributions import constraints

from credo.inference.distributions.summaries import quantiles
from credo.inference.inputs.call import argument_names
from credo.inference.mcmc.result import Reference
from credo.metrics.draws import numbers
from credo.plots.observations import Posterior, observations
from credo.plots.style import FIT, axes, headline, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROB = 0.9  # of the intervals
CLASSES = (dist.Categorical, dist.OneHotCategorical)
ROUGH = 0.5  # sds of predictions: the mean distance of neighbours along x; it is 1.1 where x says nothing of them
CROWD = 500  # points, above which they are paler


def predictive(
    fit: Posterior, n: int = 4000, *, x: Any = None, new: Any = None, y: Any = None, ax: "Axes | None" = None
) -> "Axes":
    """Posterior predictive mean and 90 % interval of a regression or of counts, with the data, along one axis.

    The legend says which share of the data lies inside. Predictions that depend on x alone are a line and a band;
    where several covariates matter, each row has a vertical interval.

    fit: a `Fit`, an `Exact` or a `Reference`. n: number of draws. new: other rows to predict: the arguments of
        `fit.predict` as a tuple, or one argument, such as a table or X; None takes the rows of the fit. y: shape (N,),
        the data of the new rows; None draws none. x: shape (N,), the horizontal axis; None takes the first argument if
        it is one column, by its name, else the predicted mean. ax: Axes to draw on; None makes a figure.
    Raises ValueError unless the model observes one site of real numbers or counts, with one number in each row, and for
        an x or y that has not one number for each row.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> pair, x = credo.load("linear_regression"), torch.linspace(-1, 1, 20)
    >>> fit = credo.fit(pair.model, pair.guide, x[:, None], 2 * x, steps=20, compile=False, progress=False)
    >>> ax = credo.plots.predictive(fit, 200, new=torch.linspace(-2, 2, 9)[:, None], ax=Figure().subplots())
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('x', 'y')
    """
    if not isinstance(fit, Posterior):
        raise ValueError(f"fit: got {type(fit).__name__}, wanted a Fit, an Exact or a Reference")
    name, own = _response(fit)
    truth: torch.Tensor | None = own
    of = fit.approximation if isinstance(fit, Reference) else fit
    given = of.data if new is None else new if isinstance(new, tuple) else (new,)
    if new is None and y is not None:
        raise ValueError("y: the data of the fit are drawn already; y belongs to new=")
    draws = fit.predict(n, *(() if new is None else given))[name].cpu().double()
    if new is not None:
        truth = None if y is None else numbers("y", y)
    mean, (low, high) = draws.mean(0), quantiles(draws, ((1 - PROB) / 2, (1 + PROB) / 2))
    column = None if x is not None else _column(given[0], truth, len(mean)) if given else None
    at = column if column is not None else mean if x is None else numbers("x", x)
    for label, values in (("x", at), ("y", truth)):
        if values is not None and values.shape != mean.shape:
            raise ValueError(f"{label}: got shape {tuple(values.shape)}, wanted {tuple(mean.shape)}, one for each row")
    at, order = at.double(), at.argsort(stable=True)
    ax = axes(ax)
    if len(at) > 1 and (column is not None or all(_is_smooth(line[order]) for line in (mean, low, high))):
        ax.fill_between(at[order], low[order], high[order], color=FIT, alpha=0.2, lw=0, label="90 % predictive")
        ax.plot(at[order], mean[order], color=FIT, lw=2, label="mean")
    else:
        alpha = max(0.1, min(0.6, 60 / len(at)))
        ax.vlines(at, low, high, color=FIT, alpha=alpha, lw=1, label="90 % predictive")
        ax.plot(at[order], mean[order], "_", color=FIT, ms=6, label="mean")
    if truth is not None:
        there = truth.isfinite()
        inside = ((truth >= low) & (truth <= high))[there].double().mean().item()
        style = {"ms": 4, "alpha": 0.8} if len(at) <= CROWD else {"ms": 3, "alpha": 0.4}
        counts = bool((draws == draws.round()).all())
        expected = ((draws >= low) & (draws <= high))[:, there].double().mean().item() if counts else PROB
        headline(ax, _coverage(inside, int(there.sum()), expected, new is None))
        label = f"data ({inside:.0%} inside)"
        ax.plot(at[there], truth[there], ".", color="0.15", label=label, **style)  # type: ignore[arg-type]  # numbers
    words = _name(of) if column is not None else "x" if x is not None else f"predicted mean of {name}"
    ax.set(xlabel=words, ylabel=name)
    legend(ax)
    return ax


def _coverage(inside: float, rows: int, expected: float, fitted: bool) -> str:
    """The share of the rows inside of their 90 % intervals, and whether it is off by more than 2 sds of chance.

    expected: the share of the draws inside: intervals of counts hold more than 90 %. fitted: whether the fit has seen
    these rows, of which it holds more than of new ones.
    """
    if not rows:
        return "The 90 % intervals, and no data"
    off = (inside - expected) / max((expected * (1 - expected) / rows) ** 0.5, 0.5 / rows)
    words = f"The 90 % intervals hold {100 * inside:.0f} % of the {rows:,} rows"
    words += f" ({100 * expected:.0f} % expected of counts)" if round(100 * expected) > round(100 * PROB) else ""
    if off < -2:
        return f"{words}: they are too narrow"
    if off > 2:
        return f"{words}, which the fit has seen" if fitted else f"{words}: they are too wide"
    return words


def _response(fit: Posterior) -> tuple[str, torch.Tensor]:
    """(name, values) of the observed site; ValueError unless it has a number in each row that is no class."""
    sites = observations(fit)
    name, (fn, values) = next(iter(sites.items()))
    classes = isinstance(fn, CLASSES) or fn.support is constraints.boolean
    if len(sites) != 1 or values.dim() != 1 or fn.event_shape or classes:
        raise ValueError(
            f"predictive: wanted one observed site of shape (N,) with real numbers or counts, got {sorted(sites)}; "
            f"of classes draw plots.reliability"
        )
    return name, values


def _column(first: Any, truth: torch.Tensor | None, rows: int) -> torch.Tensor | None:
    """The first argument as the horizontal axis, if it is one column of numbers that are not the data themselves."""
    if isinstance(first, pd.DataFrame) and first.shape[1] != 1:
        return None
    try:
        values = numbers("x", first).squeeze(-1) if not isinstance(first, torch.nn.Module) else torch.zeros(0)
    except ValueError:
        return None
    if values.shape != (rows,) or (truth is not None and torch.equal(values.to(truth.dtype), truth)):
        return None
    return values.double()


def _name(of: Any) -> str:
    """The name of the first argument: of its column, or in the model, which takes columns of a table by name."""
    columns = of.columns[0] if of.columns else None
    name = str(columns[0]) if columns else argument_names(of.model, 1)[0]
    return "x" if name == "X" else name


def _is_smooth(ordered: torch.Tensor) -> bool:
    """Whether numbers, in the order of x, look like a function of x."""
    return bool(ordered.diff().abs().mean() <= ROUGH * ordered.std())
