"""One pair from data to report, as the command line runs it: fit, tables, scores and pictures."""

import inspect
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import click
import pandas as pd

import credo
from credo.inference.evaluation.beside import beside
from credo.inference.evaluation.comparison import Comparison
from credo.inference.posterior.marginals import means_and_sds
from credo.inference.posterior.sample import guide_draws
from credo.inference.runtime.state import reading
from credo.pairs import Pair
from credo.report.gallery import gallery
from credo.report.held_out import scores
from credo.report.page import Section

LONGEST = 40  # scalars of a fit that get a row each


def arguments(pair: Pair, path: Path | None) -> tuple[Any, ...]:
    """The model's arguments: the built-in data, or a CSV file, which goes through `data(table)` if the pair has it.

    Raises ValueError for a pair without built-in data, and for a file that cannot be read, has no rows, two columns of
    one name, or rows that are longer than its header.
    """
    if path is None:
        if pair.data is None:
            raise ValueError(f"{pair.name}: has no built-in data; pass --data file.csv")
        return _from(pair.data())
    try:
        table = pd.read_csv(path)
        header = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:  # pandas' own are ValueErrors
        packed = "; wanted one CSV file, unpack it first" if "ZIP" in str(error) else ""
        raise ValueError(f"{path}: cannot be read as a CSV file ({error}){packed}") from None
    if table.empty:
        raise ValueError(f"{path}: has no rows; wanted a header line with column names, and data below it")
    if len(twice := header[header.duplicated() & header.notna()]):
        raise ValueError(f"{path}: two columns are called {twice.iloc[0]!r}; rename one of them")
    n = len(table)
    if not any(table.index.equals(pd.RangeIndex(first, first + n)) for first in (0, 1)):  # row names, pandas thinks
        raise ValueError(
            f"{path}: its rows hold more values than its header line has names, {list(table.columns)}; name every "
            f"column, or remove the comma at the end of the rows"
        )
    (first, *others) = table.columns
    separators = [mark for mark in ";\t|" if mark in first and not others]
    if separators:
        raise ValueError(f"{path}: its columns are separated by {separators[0]!r}, wanted commas")
    if pair.data is not None and "table" in inspect.signature(pair.data).parameters:
        return _from(pair.data(table=table))
    return (table,)


def _from(found: Any) -> tuple[Any, ...]:
    """What `data()` of a pair returned. Raises ValueError unless it is a tuple of arguments."""
    if not isinstance(found, (tuple, list)):
        raise ValueError(f"data() returned a {type(found).__name__}, wanted a tuple of the model's arguments")
    return tuple(found)


def fit_pair(pair: Pair, section: Section, data: tuple[Any, ...], **settings: Any) -> credo.Fit:
    """Fits the pair, prints the fit, and stores it with its seconds in the section; settings go to `credo.fit`."""
    start = time.perf_counter()
    section.fit = credo.fit(pair.model, pair.guide, *data, **settings)
    section.seconds = time.perf_counter() - start
    click.echo(section.fit)
    return section.fit


def analyse(pair: Pair, section: Section, out: Path | None, exact: bool) -> None:
    """Prints all tables of the section's fit, stores them in the section, and saves tables and pictures to `out`.

    exact: compare with the pair's exact posterior, where it has one. out: None saves nothing.
    """
    fit, posterior, compared = section.fit, None, None
    assert fit is not None

    def keep(heading: str, name: str, table: pd.DataFrame) -> None:
        section.tables[heading] = table
        show(table)
        save(table, out, name)

    if exact and pair.posterior is not None:
        with reading(fit.state, fit.seed):  # networks with the weights of the fit
            posterior = pair.posterior(*fit.data)
        compared = credo.compare(fit, posterior)
        keep("Compared with the exact posterior", "compare", compared)
        a = compared.attrs
        section.gap = (
            f"log evidence {a['log_evidence']:,.3f}, ELBO {a['elbo']:,.3f} ± {a['elbo_error']:.3f}: "
            f"the guide is {a['evidence_gap']:.3f} ± {a['elbo_error']:.3f} nats from the exact posterior"
        )
        click.echo(section.gap)
    else:
        keep("Posterior summary", "summary", _summary(fit))
    section.scores = scores(fit)
    if section.scores is not None:
        values = ", ".join(f"{name} {value:.4g}" for name, value in section.scores.items())
        click.echo(f"{section.scores.name}: {values}")
    lesson, report = beside(pair.model, "lesson"), beside(pair.guide, "report")
    table = None
    if lesson is not None:
        with reading(fit.state, fit.seed):
            table = lesson(*fit.data)
        keep("Lesson", "lesson", table)
    if report is not None:
        keep("Report", "report", report(fit.params))
    if out is not None:
        section.pictures = gallery(fit, out, posterior, compared, table)


def show(table: pd.DataFrame) -> None:
    """Prints a table, numbers to four digits, at most 40 rows; a comparison as it prints itself."""
    if isinstance(table, Comparison):
        click.echo(repr(table))
        return
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.max_colwidth", None):
        click.echo(table.to_string(float_format=lambda v: f"{v:.4g}", max_rows=40))


def save(table: pd.DataFrame, out: Path | None, name: str) -> None:
    """Writes a table to `out/name.csv`; None writes nothing."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        table.to_csv(out / f"{name}.csv")
        click.echo(f"written: {out / name}.csv")


def _summary(fit: credo.Fit) -> pd.DataFrame:
    """A row for each scalar; with more than LONGEST scalars, a row for each site."""
    shapes = {name: values.shape[1:] for name, values in guide_draws(fit, 1).items()}
    if sum(shape.numel() for shape in shapes.values()) <= LONGEST:
        return fit.summary()
    moments = means_and_sds(fit, 400, 0)
    table = pd.DataFrame(
        {
            "numbers": {name: shape.numel() for name, shape in shapes.items()},
            "mean |mean|": {name: mean.abs().mean().item() for name, (mean, _) in moments.items()},
            "mean sd": {name: sd.mean().item() for name, (_, sd) in moments.items()},
        }
    )
    return table.rename_axis("site")
