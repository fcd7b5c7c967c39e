"""`credo sweep` and `credo gather`: one model fitted under many settings, and the table of what there is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import credo
from credo.cli.mistakes import mistakes
from credo.cli.options import DATA, DEVICE, NAME, OUT, QUIET, SET, Command, options
from credo.pairs import load_alone

COLUMN = 60  # characters of a cell on the terminal


def _values(convert: Callable[[str], Any]) -> Callable[..., list[Any] | None]:
    """The values of an option, separated by commas, as a list; None if it is not given."""

    def read(context: click.Context, option: click.Parameter, text: str | None) -> list[Any] | None:
        if text is None:
            return None
        try:
            return [convert(part.strip()) for part in text.split(",")]
        except ValueError:
            kind = "whole numbers" if convert is int else "numbers" if convert is float else "words"
            raise click.BadParameter(f"got {text!r}, wanted {kind} separated by commas") from None

    return read


def _word(text: str) -> str | None:
    word = text.lower().replace("-", "_")
    if not word:
        raise ValueError
    return None if word in ("none", "auto") else word


def _list(flag: str, convert: Any, help: str) -> Callable[[Command], Command]:
    return click.option(flag, metavar="LIST", callback=_values(convert), help=f"{help}; several with commas between.")


FOLDER = click.option(
    "--folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the results, which all workers share.",
)
INDEX = click.option(
    "--index",
    type=int,
    help="Number of the only setting to fit, from 0, the last list fastest; without it, that of the task in a "
    "job array, else all.",
)
SWEPT = options(
    NAME,
    DATA,
    FOLDER,
    INDEX,
    _list("--guide", _word, "Automatic guide in place of the pair's, as in credo fit"),
    SET,
    _list("--seed", int, "Seed of all random draws"),
    _list("--lr", float, "Learning rate in unconstrained space"),
    _list("--steps", int, "Number of steps; without it, until converged"),
    _list("--batch-size", int, "Rows of the data in each step"),
    DEVICE,
    QUIET,
)


@click.command()
@SWEPT
def sweep(
    name: str,
    data: Path | None,
    folder: Path,
    index: int | None,
    guide: list[str | None] | None,
    settings: dict[str, Any],
    device: str | None,
    quiet: bool,
    **lists: list[Any] | None,
) -> None:
    """Fit every combination of the listed settings, each once.

    credo sweep NAME --folder results --seed 0,1,2 --lr .01,.02 --set "prior_sd=[0.5, 1.0]"

    Start it once, or many times with the same folder, as a job array: a setting that is done is skipped.
    """
    from credo.report.analysis import arguments

    with mistakes(name):
        pair = load_alone(name)
        given: dict[str, Any] = {key: values for key, values in lists.items() if values is not None}
        given |= {} if device is None else {"device": device}
        guides: Any = pair.guide if guide is None else guide
        credo.sweep(pair.model, guides, *arguments(pair, data), folder=folder, index=index, settings=settings, **given)
        if not quiet:
            _show(folder)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@OUT
def gather(folder: Path, out: Path | None) -> None:
    """Show the results that a sweep has so far; with --out also as a table, OUT/sweep.csv."""
    with mistakes():
        _show(folder, out)


def _show(folder: Path, out: Path | None = None) -> None:
    from credo.report.tables import save, say, show

    table = credo.gather(folder)
    brief = table.drop(columns="path").assign(stopped=[_brief(words) for words in table["stopped"]])
    show(brief)
    best = table.attrs["best"]
    say(f"{len(table):,} settings in {folder}" + ("" if best is None else f"; the largest ELBO is that of row {best}"))
    save(table, out, "sweep")


def _brief(words: str) -> str:
    return words if len(words) <= COLUMN else f"{words[: COLUMN - 3]}..."
