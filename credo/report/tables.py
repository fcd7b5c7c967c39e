"""Tables on the terminal and in CSV files."""

import re
import textwrap
from pathlib import Path
from typing import Any

import click
import pandas as pd

from credo.inference.evaluation.comparison import Comparison

WIDTH = 100  # of a row that is printed down the page
FORMULA = re.compile(r"[=+\-@\t\r].", re.DOTALL)  # what a spreadsheet runs, at the beginning of a cell


def show(table: pd.DataFrame) -> None:
    """Prints a table, numbers to four digits, at most 40 rows; a comparison as it prints itself."""
    if isinstance(table, Comparison):
        click.echo(repr(table))
        return
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.max_colwidth", None):
        click.echo(table.to_string(float_format=lambda v: f"{v:.4g}", max_rows=40))


def show_rows(table: pd.DataFrame) -> None:
    """Prints the rows of a table one below the other, a line for each column that says something."""
    for number in range(len(table)):
        row = table.reset_index().iloc[number]
        said = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in row.items()}
        wide = max(len(str(name)) for name in said) + 2
        click.echo("" if not number else "\n", nl=False)
        for name, words in said.items():
            if words not in ("-", ""):
                lines = textwrap.wrap(words, WIDTH - wide, break_long_words=False) or [""]
                click.echo(str(name).ljust(wide) + ("\n" + " " * wide).join(lines))


def save(table: pd.DataFrame, out: Path | None, name: str) -> None:
    """Writes a table to `out/name.csv`, text as `quoted`; None writes nothing."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        quoted(table).to_csv(out / f"{name}.csv")
        click.echo(f"written: {out / name}.csv")


def quoted(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before text that a spreadsheet would run as a formula; numbers stay numbers."""
    plain = pd.DataFrame(table)
    plain = plain.apply(lambda column: column.map(_quoted)) if len(plain) else plain
    return plain.rename(index=_quoted, columns=_quoted).rename_axis(index=_quoted, columns=_quoted)


def _quoted(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value
