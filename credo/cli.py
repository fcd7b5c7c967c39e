"""The command line: credo list | plan NAME | fit NAME | compare NAME | demo.

A command imports torch, pandas and the pictures when it runs, so that `credo --help` and `credo list` answer at once.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

import credo
from credo.pairs import description, place_in


class Mistake(click.ClickException):
    """An error that the user can correct: the message without a traceback, exit code 2."""

    exit_code = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(credo.__version__)
def main() -> None:
    """Bayesian deep learning on Pyro: fit a model, and learn whether to trust the answer.

    NAME is a pair from `credo list`, or the path of a .py file that defines `model` and `guide`, and perhaps `data`.
    """


def _folder(context: click.Context, option: click.Parameter, out: Path | None) -> Path | None:
    """The folder that --out names. Refuses one inside of a file before anything is computed."""
    for parent in out.parents if out is not None else ():
        if parent.exists() and not parent.is_dir():
            raise click.BadParameter(f"{parent} is a file, wanted a folder")
    return out


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.argument("name"),
            click.option(
                "--data",
                type=click.Path(path_type=Path, dir_okay=False),
                help="CSV file; its columns are the model's arguments.",
            ),
            click.option("--steps", type=int, help="Number of steps; without it, until converged."),
            click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random draws."),
            click.option("--device", help="cpu, cuda, ...; without it, CUDA for models that gain from it."),
            click.option(
                "--out",
                type=click.Path(path_type=Path, file_okay=False),
                callback=_folder,
                help="Folder for tables (CSV) and pictures (PNG).",
            ),
        )
    ):
        command = option(command)
    return command


@main.command("list")
def list_() -> None:
    """List the pairs that come with credo."""
    for name in credo.names():
        click.echo(f"{name:<24}{description(name).partition(chr(10))[0]}")


@main.command()
@_options
def plan(name: str, data: Path | None, steps: int | None, seed: int, device: str | None, out: Path | None) -> None:
    """Show which gradient estimator each latent site gets, and why."""
    from credo.report.analysis import arguments, save, show

    with _mistakes(name):
        pair = credo.load(name)
        table = credo.plan(pair.model, pair.guide, *arguments(pair, data), seed=seed, device=device).frame
        show(table.T if len(table) == 1 else table)
        save(table, out, "plan")


@main.command()
@_options
def fit(name: str, data: Path | None, steps: int | None, seed: int, device: str | None, out: Path | None) -> None:
    """Fit the guide and summarise the posterior."""
    from credo.report.analysis import analyse, arguments, fit_pair
    from credo.report.page import Section

    with _mistakes(name):
        pair, section = credo.load(name), Section(name)
        fit_pair(pair, section, arguments(pair, data), steps=steps, seed=seed, device=device)
        analyse(pair, section, out, exact=False)


@main.command()
@_options
def compare(name: str, data: Path | None, steps: int | None, seed: int, device: str | None, out: Path | None) -> None:
    """Fit the guide and compare it with the exact posterior."""
    from credo.report.analysis import analyse, arguments, fit_pair
    from credo.report.page import Section

    with _mistakes(name):
        pair, section = credo.load(name), Section(name)
        if pair.posterior is None:
            raise Mistake(
                f"{name}: no exact posterior is known; define a function posterior(*data) in the model's file"
            )
        fit_pair(pair, section, arguments(pair, data), steps=steps, seed=seed, device=device)
        analyse(pair, section, out, exact=True)


@main.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out"),
    callback=_folder,
    show_default=True,
    help="Output folder.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random draws.")
@click.option("--only", multiple=True, metavar="NAME", help="Fit this pair only; repeat the option for more pairs.")
def demo(out: Path, seed: int, only: tuple[str, ...]) -> None:
    """Fit every pair to its built-in data; write plans, tables and pictures to one page, OUT/index.html."""
    import torch

    from credo.report.analysis import analyse, fit_pair, show
    from credo.report.page import PLAN, Section, write

    start = time.perf_counter()
    torch.set_num_threads(1)  # with small tensors, threads wait for each other; on a busy machine for minutes
    sections: list[Section] = []
    failed: list[Exception] = []
    with _mistakes():
        pairs = {name: credo.load(name) for name in only or credo.names()}
        if missing := [pair.name for pair in pairs.values() if pair.data is None and only]:
            raise Mistake(f"{missing[0]}: has no built-in data; use credo fit {missing[0]} --data file.csv")
    for name, pair in pairs.items():
        if pair.data is None:
            continue
        command = "fit" if pair.posterior is None else "compare"
        sections.append(section := Section(pair.name, description(name)))
        section.command = f"credo {command} {pair.name} --seed {seed} --out {out / pair.name}"
        click.secho(f"\n{pair.name}", bold=True)
        try:
            result = fit_pair(pair, section, pair.data(), seed=seed)
            show(result.plan.frame[PLAN])
            analyse(pair, section, out / pair.name, exact=pair.posterior is not None)
        except Exception as error:
            failed.append(error)
            section.error = f"{type(error).__name__}: {error}"
            click.echo(f"{pair.name} failed: {section.error}", err=True)
    seconds = time.perf_counter() - start
    page = write(out, sections, f"credo {credo.__version__}, seed {seed}; fitted and drawn in {seconds:.0f} s.")
    click.echo(f"\n{seconds:.0f} s; tables and pictures are in {out}/; open {page}")
    if failed:
        with _mistakes():
            raise failed[0]


@contextmanager
def _mistakes(name: str = "") -> Iterator[None]:
    """Turns errors with a remedy, and those of the user's own file, into messages without a traceback.

    name: of the pair, perhaps the path of a file. Errors in credo itself keep their traceback. Warnings are shown
    without the line of credo that raised them.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: click.echo(f"Warning: {message}", err=True)
            yield
    except click.ClickException:
        raise
    except credo.Diverged as error:
        raise Mistake(str(error)) from None
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        place = place_in(Path(name), error) if name.endswith(".py") else ""
        if not notes and not place and not isinstance(error, (ValueError, OSError)):
            raise
        kind = "" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: "
        message = str(error).split("\nTrace Shapes:")[0].rstrip()  # Pyro's appendix
        where = f"{place}: " if place else ""
        raise Mistake("\n".join([where + kind + message, *notes])) from None


if __name__ == "__main__":
    main()
