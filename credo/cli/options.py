"""The options of the commands, and what can be said against them before anything is computed."""

import ast
import tempfile
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from credo.cli.job import is_first

Command = Callable[..., None]
LITERALS = {"none": "None", "null": "None", "nil": "None", "true": "True", "false": "False"}


def options(*given: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """A decorator that gives a command these options, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(given):
            command = option(command)
        return command

    return decorate


def _folder(context: click.Context, option: click.Parameter, out: Path | None) -> Path | None:
    """The folder that --out names; refused if no file can be written there. It is not made yet."""
    if out is not None and is_first():  # of a job, whose other hosts need no such folder
        _refuse_unwritable(out)
    return out


def _target(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """The file that an option names; refused if it cannot be written."""
    if path is not None and is_first():
        if path.exists() and not path.is_file():
            raise click.BadParameter(f"{path} is no file, wanted the name of a file to write")
        _refuse_unwritable(path.absolute().parent)
    return path


def _refuse_unwritable(folder: Path) -> None:
    made: list[Path] = []
    try:
        for parent in folder.parents:
            if parent.exists() and not parent.is_dir():
                raise click.BadParameter(f"{parent} is a file, wanted a folder")
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.BadParameter(f"{folder}: no file can be written there ({reason})") from None
    finally:
        for path in made:
            with suppress(OSError):  # it was not made, or another program has written into it
                path.rmdir()


def _table(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """The file that an option reads: a regular file that is there."""
    if path is not None and not path.is_file():
        kind = "a pipe or a device" if path.exists() else "no file"
        raise click.BadParameter(f"{str(path)!r} is {kind}, wanted a CSV file; save the rows to a file first")
    return path


def _literals(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """{name: value} of settings written as name=value, values as Python writes them."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"got {text!r}, wanted name=value, such as sigma=None")
        if name in found:
            raise click.BadParameter(f"{name} is set twice")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            meant = next((LITERALS[word] for word in get_close_matches(value.lower(), LITERALS, n=1)), "")
            hint = f"did you mean {name}={meant}?" if meant else f"text keeps its quotes, --set '{name}=\"{value}\"'"
            raise click.BadParameter(
                f"{name}: got {value!r}, wanted a number, text in quotes, True, False, None, or a tuple, list or "
                f"dictionary of them as Python writes them; {hint}"
            ) from None
    return found


def _path(*flags: str, check: Callable[..., Path | None], help: str, **more: Any) -> Callable[[Command], Command]:
    kind = click.Path(path_type=Path, dir_okay=check is _folder, file_okay=check is not _folder)
    return click.option(*flags, type=kind, callback=check, help=help, **more)


NAME = click.argument("name")
DATA = _path("--data", check=_table, help="CSV or Parquet file; its columns are the model's arguments.")
SEED = click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random draws.")
STEPS = click.option("--steps", type=int, help="Number of steps; without it, until converged.")
DEVICE = click.option("--device", help="cpu, cuda, ...; without it, CUDA for models that gain from it.")
OUT = _path("--out", check=_folder, help="Folder for tables (CSV) and pictures (SVG).")
demo_folder = _path("--out", check=_folder, help="Output folder.", default=Path("out"), show_default=True)
GUIDE = click.option(
    "--guide",
    metavar="WORD",
    help="Automatic guide in place of the pair's: mean_field, full_rank, low_rank, laplace, map, mle; or none: chosen.",
)
SET = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_literals,
    help="Setting of the model, as Python writes it, e.g. sigma=None; repeat for more.",
)
LR = click.option("--lr", type=float, help="Learning rate in unconstrained space.")
BATCH_SIZE = click.option("--batch-size", type=int, help="Rows of the data in each step; without it, all.")
SEEDS = click.option("--seeds", type=int, help="So many fits, from --seed on; the best by its ELBO is shown.")
PARTICLES = click.option("--particles", type=int, help="Draws of the guide in each step; without it, by the plan.")
SHARD = click.option(
    "--shard",
    type=click.Choice(["rows", "particles"]),
    help="What the processes of a job share out: the rows of each step, or its draws.",
)
CHECKPOINT = _path(
    "--checkpoint",
    check=_target,
    help="File that keeps the run as it goes; the same command goes on from it after a kill.",
)
SAVE = _path("--save", check=_target, help="File to keep the fit in; credo.load_fit reads it.")
PREDICT = _path(
    "--predict",
    check=_table,
    help="CSV file of new rows; their predictions, with 90 % intervals, go to OUT/predictions.csv, without --out to "
    "the terminal.",
)
QUIET = click.option("--quiet", is_flag=True, help="Print predictions, warnings and errors only.")
REFERENCE = click.option("--reference", is_flag=True, help="Compare with draws by NUTS instead of a closed form.")

PLANNING = options(NAME, DATA, GUIDE, SET, STEPS, SEED, DEVICE, OUT)
RUN = (STEPS, LR, BATCH_SIZE, PARTICLES, SEED, SEEDS, DEVICE, SHARD, CHECKPOINT)
FITTING = options(NAME, DATA, GUIDE, SET, *RUN, SAVE, PREDICT, OUT, QUIET)
