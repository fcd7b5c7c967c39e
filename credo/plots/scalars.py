"""A forest plot of many scalars, and how scalars are chosen by name."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from credo.inference.distributions.summaries import scalars
from credo.inference.mcmc.result import Reference
from credo.inference.posterior.coords import labels_of
from credo.inference.runtime.defaults import default_dtype
from credo.plots.style import EXACT, PRIOR, SERIES, axes, headline, legend, shortened, side_by_side

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scalars = dict[str, tuple[str, tuple[int, ...]]]  # {name of a scalar: (its site, its index)}

COLUMNS = ["5%", "50%", "95%"]
SPREAD = 0.6  # of the distance of two rows, for the intervals of several fits


def forest(
    fit: Any,
    names: str | Sequence[str] | None = None,
    ax: "Axes | None" = None,
    *,
    sort: bool = False,
    most: int = 40,
) -> "Axes":
    """The 90 % interval and the median of every scalar, a row for each: of one fit, or of several side by side.

    fit: a `Fit`, an `Exact`, a `Reference`, or a table from their `summary()`; or several: {label: one of these}, or a
        list. An exact posterior and a reference are black.
    names: sites ("b"), or scalars as the summary names them ("b[0]"); None takes all. most: rows that are drawn; the
        label of the axis says how many there are. sort: by the median of the first fit, the largest on top; otherwise
        they have the order of the summary.
    ax: Axes to draw on; None makes a figure, as high as the rows need.
    Raises ValueError for a name that is no site and no scalar, and for a table without the columns 5%, 50%, 95%.

    >>> import torch
    >>> from matplotlib.figure import Figure
    >>> pair, x = credo.load("linear_regression"), torch.linspace(-1, 1, 20)[:, None]
    >>> fit = credo.fit(pair.model, None, x, 2 * x[:, 0])
    >>> ax = credo.plots.forest(fit, ax=Figure().subplots())
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['theta[0]', 'b']
    """
    given = side_by_side("forest", fit)
    tables = {label: _table(label, one)[COLUMNS].astype(float) for label, one in given.items()}
    first = next(iter(tables.values()))
    every = list(dict.fromkeys(row for table in tables.values() for row in table.index))
    rows = chosen(every, names)
    if sort:
        rows = sorted(rows, key=lambda row: -first["50%"].get(row, float("-inf")))
    shown = rows[: at_least_one("most", most)]
    ax = axes(ax, (6, 0.9 + 0.27 * max(3, len(shown) * max(1, 0.55 * len(tables)))))
    for i, ((label, table), color) in enumerate(zip(tables.items(), SERIES, strict=False)):
        color = EXACT if type(given[label]).__name__ in ("Exact", "Reference") else color
        low, middle, high = table.reindex(shown).to_numpy().T
        at = [row + SPREAD * ((i + 0.5) / len(tables) - 0.5) for row in range(len(shown))]
        ax.hlines(at, low, high, color=color, lw=2, alpha=0.7)
        ax.plot(middle, at, "o", ms=5, color=color, label=label)
    ax.set_yticks(range(len(shown)), [shortened(row) for row in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    low, high = ax.get_xlim()
    if low < 0 < high:
        ax.axvline(0, color=PRIOR, lw=0.8, zorder=0)
    ax.set_xlabel("median and 90 % interval" + (f" ({len(shown)} of {len(rows):,} scalars)" if shown != rows else ""))
    if len(tables) > 1:
        legend(ax)
    else:
        headline(ax, _reading(first.loc[shown], low < 0 < high))
    return ax


def _reading(table: pd.DataFrame, around_zero: bool) -> str:
    """How many intervals exclude 0, if the axis shows 0; else between which scalars the medians lie."""
    if around_zero:
        return f"{int((table['5%'] * table['95%'] > 0).sum())} of {len(table)} intervals exclude 0"
    if len(table) == 1:
        return f"{shortened(table.index[0])}: median {table['50%'].iloc[0]:.3g}"
    least, most = table["50%"].idxmin(), table["50%"].idxmax()
    return f"Medians from {table['50%'].min():.3g} ({shortened(least)}) to {table['50%'].max():.3g} ({shortened(most)})"


def chosen(every: Sequence[str], names: str | Iterable[str] | None) -> list[str]:
    """The scalars among these that the names choose, in the order of the names: b is b, b[0], b[1], ...

    Raises ValueError for a name that chooses none.
    """
    if names is None:
        return list(every)
    found: dict[str, None] = {}
    for name in [names] if isinstance(names, str) else names:
        some = [row for row in every if row == name or row.split("[")[0] == name]
        if not some:
            known = list(dict.fromkeys(row.split("[")[0] for row in every))
            close = get_close_matches(str(name), [*known, *every], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise ValueError(f"names: {name!r} is no site and no scalar{hint} The sites are {', '.join(known[:20])}")
        found |= dict.fromkeys(some)
    return list(found)


def located(of: Any, shapes: Mapping[str, torch.Size], names: str | Sequence[str] | None) -> Scalars:
    """The scalars that the names choose; of the sites that the names do not begin with, none is looked at."""
    labels = _labels(of)
    asked = [names] if isinstance(names, str) else names
    wanted = shapes if asked is None else {name.split("[")[0] for name in asked} & shapes.keys()
    every = {
        label: (site, index)
        for site, shape in shapes.items()
        if site in wanted
        for index, label in scalars(site, shape, labels.get(site))
    }
    others = [site for site in shapes if site not in wanted]
    return {name: every[name] for name in chosen([*every, *others], asked)}


def _labels(of: Any) -> dict[str, Any]:
    """{site: the labels of its entries}, from the columns, categories and index of the data."""
    if not isinstance(of, Reference):
        return dict(labels_of(of))
    if of.source is None:
        return {}
    with default_dtype(of.approximation.dtype):
        return dict(labels_of(of.approximation))


def _table(label: str, one: Any) -> pd.DataFrame:
    table = one if isinstance(one, pd.DataFrame) else one.summary() if hasattr(one, "summary") else None
    if table is None or not set(COLUMNS) <= set(table.columns):
        got = type(one).__name__ if table is None else f"a table with the columns {', '.join(map(str, table.columns))}"
        raise ValueError(
            f"forest: {label}: got {got}, wanted a Fit, an Exact, a Reference, or the table of their summary(); "
            f"plots.intervals draws the table of credo.compare"
        )
    return table


def at_least_one(name: str, count: int) -> int:
    """The count; ValueError for less than one."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"{name}: got {count!r}, wanted a whole number, at least 1")
    return count
