"""The table of `credo.compare`, and how it is printed.

Its columns keep their names and full precision: `table.loc["tau", "sd ratio"]`. Printed, the name of the reference
stands over its mean and sd, numbers have the digits that
a reader needs, and no column is cut: a table wider than the
terminal goes on below.
"""

import html
import math
import shutil
import textwrap
from typing import Any

import pandas as pd

from .words import farthest

NARROWEST, WIDEST = 80, 120  # characters of a printed table; a terminal between the two is filled
DECIMALS, MOST = 3, 6  # of errors and ratios; of any number, in front of its point too
ROWS = 40  # printed; of a longer table the rows that are farthest off
ERRORS = {"error in sds": "mc error in sds", "sd ratio": "mc error of ratio"}  # {column: of its Monte Carlo error}
OF_FIT, OF_REFERENCE = {"mean": "mean", "sd": "sd"}, {"exact mean": "mean", "exact sd": "sd"}


class Comparison(pd.DataFrame):
    """What `credo.compare` returns: a DataFrame whose printed form says in one line what is off.

    `.attrs["reference"]` is the name over the columns of the reference, `.attrs["in_words"]` the line.
    """

    @property
    def _constructor(self) -> Any:
        return Comparison  # rows of it, a renamed or a rounded one are printed alike

    def __repr__(self) -> str:
        if not _is_whole(self):
            return super().__repr__()
        width = min(max(shutil.get_terminal_size((WIDEST, 24)).columns, NARROWEST), WIDEST)
        heading = [textwrap.fill(line, width, subsequent_indent="    ") for line in _heading(self)]
        return "\n".join([*heading, _shown(self).to_string(line_width=width, max_colwidth=None)])

    def _repr_html_(self) -> str | None:
        if not _is_whole(self):
            found: str | None = super()._repr_html_()
            return found
        return "".join(f"<p>{html.escape(line)}</p>" for line in _heading(self)) + _shown(self).to_html()


def _is_whole(table: pd.DataFrame) -> bool:
    """Whether it still is a comparison: a part of its columns, or a statistic of them, is an ordinary table."""
    return {"mean", "sd", "error in sds", "sd ratio", "verdict"} <= set(table.columns) and "in_words" in table.attrs


def _heading(table: pd.DataFrame) -> list[str]:
    left_out = [f"the {ROWS} farthest of {len(table):,} scalars:"] if len(table) > ROWS else []
    return [table.attrs["in_words"], *left_out]


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """The printed cells, under two lines of names: fit or the reference, and the column."""
    rows = pd.DataFrame(farthest(table).head(ROWS) if len(table) > ROWS else table)
    digits = [_decimals(sd or of_fit) for sd, of_fit in zip(rows.get("exact sd", rows["sd"]), rows["sd"], strict=True)]
    kept = [name for name in table.columns if name not in ERRORS.values() and not rows[name].isna().all()]
    first = [name for name in (*OF_FIT, *OF_REFERENCE) if name in kept]
    cells: dict[tuple[str, str], list[str]] = {}
    for name in [*first, *(name for name in kept if name not in first)]:
        above = "fit" if name in OF_FIT else table.attrs["reference"] if name in OF_REFERENCE else ""
        noise = rows[ERRORS[name]] if ERRORS.get(name) in rows else [math.nan] * len(rows)
        cells[above, (OF_FIT | OF_REFERENCE).get(name, name)] = [
            value if isinstance(value, str) else _number(value, decimals if name in first else DECIMALS, error)
            for value, decimals, error in zip(rows[name], digits, noise, strict=True)
        ]
    return pd.DataFrame(cells, index=rows.index)


def _decimals(sd: float) -> int | None:
    """The decimals that show an sd to three digits; None where they would be too many to read."""
    if not (math.isfinite(sd) and sd > 0):
        return None
    decimals = max(2 - math.floor(math.log10(sd)), 0)
    return decimals if decimals <= MOST and sd < 10**MOST else None


def _number(value: float, decimals: int | None, error: float) -> str:
    """A number with so many decimals, or four digits if None or if it is large; never -0.000."""
    if not math.isfinite(value):
        return "" if math.isnan(value) else f"{value}"
    text = f"{value:.4g}" if decimals is None or abs(value) >= 10**MOST else f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text if math.isnan(error) else f"{text} ± {error:.{DECIMALS}f}"
