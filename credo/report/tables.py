"""Tables on the terminal and in CSV files. No line is wider than the terminal, or 80 characters."""

import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import click
import pandas as pd

from credo.inference.evaluation.comparison import Comparison

NARROWEST, WIDEST = 80, 100  # characters of a line; a terminal between the two is filled
FORMULA = re.compile(r"[=+\-@\t\r].", re.DOTALL)  # what a spreadsheet runs, at the beginning of a cell


def width() -> int:
    """Characters of a line on this terminal; NARROWEST where there is none."""
    return min(max(shutil.get_terminal_size((NARROWEST, 24)).columns, NARROWEST), WIDEST)


def say(text: str) -> None:
    """Prints text, its lines broken between words."""
    for line in text.splitlines():
        margin = " " * (len(line) - len(line.lstrip()))
        click.echo(_broken(line, "", f"{margin}    "))


def show(table: pd.DataFrame) -> None:
    """Prints a table, numbers to four digits, at most 40 rows; a comparison as it prints itself."""
    if isinstance(table, Comparison):
        click.echo(repr(table))
        return
    with pd.option_context("display.max_columns", None, "display.max_colwidth", None):
        click.echo(table.to_string(float_format=lambda v: f"{v:.4g}", max_rows=40, line_width=width()))


def show_plan(plan: pd.DataFrame) -> None:
    """Prints how the gradient of each latent is estimated, and why; latents with the same answer together.

    plan: `fit.plan.frame`, a row for each site.
    """
    answers: dict[tuple[str, str], list[str]] = {}
    for site, row in plan.iterrows():
        words = [row["estimator"], *([row["term"]] if row["term"] not in ("-", "") else [])]
        answers.setdefault((f"{row['distribution']}: {', '.join(words)}", row["reason"]), []).append(str(site))
    if answers:
        click.echo("gradients:")
    for (how, reason), sites in answers.items():
        for text, margin in ((f"{', '.join(sites)} ~ {how}", "  "), (f"because {reason}", "    ")):
            click.echo(_broken(text, margin, "    "))


def _broken(text: str, first: str, others: str) -> str:
    """The text in lines of the terminal's width. first, others: the margins of the first line and of the others."""
    lines = textwrap.TextWrapper(width(), first, others, break_long_words=False, break_on_hyphens=False)
    return lines.fill(text)


def show_rows(table: pd.DataFrame) -> None:
    """Prints the rows of a table one below the other, a line for each column that says something."""
    for number in range(len(table)):
        row = table.reset_index().iloc[number]
        said = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in row.items()}
        wide = max(len(str(name)) for name in said) + 2
        click.echo("" if not number else "\n", nl=False)
        for name, words in said.items():
            if words not in ("-", ""):
                lines = textwrap.wrap(words, width() - wide, break_long_words=False) or [""]
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
