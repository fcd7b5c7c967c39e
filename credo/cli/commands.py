"""The command `credo`, and the commands `list`, `plan`, `fit` and `compare`.

A command imports torch, pandas and the pictures when it runs, so that `credo --help` and `credo list` answer at once.
"""

import io
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import click

import credo
from credo.cli.cache import cache
from credo.cli.demo import demo
from credo.cli.job import is_first, refuse_in_job
from credo.cli.mistakes import Mistake, mistakes
from credo.cli.options import FITTING, PLANNING, REFERENCE
from credo.cli.sweep import gather, sweep
from credo.pairs import Pair, description, load_alone, with_settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(credo.__version__)
@click.pass_context
def main(context: click.Context) -> None:
    """Bayesian deep learning on Pyro: fit a model, and learn whether to trust the answer.

    NAME is a pair from `credo list`, or the path of a .py file that defines `model`, and perhaps `guide`, `data` and
    `posterior`. Many processes fit one pair together: torchrun --nproc-per-node=4 -m credo fit NAME.
    """
    refuse_in_job(context.invoked_subcommand)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


main.add_command(demo)
main.add_command(cache)
main.add_command(sweep)
main.add_command(gather)


@main.command("list")
def list_() -> None:
    """List the pairs that come with credo."""
    for name in credo.names():
        click.echo(f"{name:<24}{description(name).partition(chr(10))[0]}")


@main.command()
@PLANNING
def plan(
    name: str,
    data: Path | None,
    guide: str | None,
    settings: dict[str, Any],
    steps: int | None,
    seed: int,
    device: str | None,
    out: Path | None,
) -> None:
    """Show which gradient estimator each latent site gets, and why."""
    from credo.report.analysis import arguments
    from credo.report.tables import save, show_rows

    with mistakes(name):
        pair = _pair(name, guide, settings)
        table = credo.plan(pair.model, pair.guide, *arguments(pair, data), seed=seed, device=device).frame
        show_rows(table)  # whose reasons are long
        save(table, out, "plan")


@main.command()
@FITTING
def fit(**given: Any) -> None:
    """Fit the guide and summarise the posterior."""
    _run(given, compared=False)


@main.command()
@FITTING
@REFERENCE
def compare(**given: Any) -> None:
    """Fit the guide and compare it with the exact posterior.

    The exact posterior is the function `posterior` of the model's file, else what credo.exact finds; --reference draws
    from the posterior by NUTS.
    """
    _run(given, compared=True)


def _run(given: dict[str, Any], compared: bool) -> None:
    """`fit` and `compare`. given: the options. In a job all processes fit, and the first one shows what came out."""
    from credo.inference.runtime.workers import everywhere, workers
    from credo.report.analysis import analyse, arguments, fit_pair, oracle, refuse_no_oracle
    from credo.report.new_rows import new_rows, predictions
    from credo.report.page import Section
    from credo.report.tables import quoted, save, say

    name, out, quiet = (given[key] for key in ("name", "out", "quiet"))
    reference = given.get("reference", False)
    names = ("steps", "lr", "batch_size", "particles", "seed", "seeds", "device", "shard", "checkpoint")
    options = {key: given[key] for key in names if given[key] is not None} | {"progress": not quiet}
    with mistakes(name):

        def read() -> tuple[Pair, tuple[Any, ...], Any]:
            pair = _pair(name, given["guide"], given["settings"])
            data = arguments(pair, given["data"])
            rows = None if given["predict"] is None else new_rows(pair, given["data"], given["predict"])
            if compared and not reference:
                refuse_no_oracle(pair, data)
            return pair, data, rows

        pair, data, rows = everywhere(workers(), read)
        section = Section(name)
        with redirect_stdout(io.StringIO()) if quiet else nullcontext():
            fitted = fit_pair(pair, section, data, **options)
            if not is_first():
                return
            say(repr(fitted.verdict))
            if given["save"] is not None:
                given["save"].absolute().parent.mkdir(parents=True, exist_ok=True)
                fitted.save(given["save"])
                click.echo(f"written: {given['save']}")
            exact = oracle(pair, fitted, reference, given["seed"], progress=not quiet) if compared else None
            analyse(pair, section, out, exact)
        if rows is not None:
            table = predictions(fitted, rows, given["seed"])
            with redirect_stdout(io.StringIO()) if quiet and out is not None else nullcontext():
                save(table, out, "predictions")
            if out is None:
                click.echo(quoted(table).to_csv(), nl=False)


def _pair(name: str, guide: str | None, settings: dict[str, Any]) -> Pair:
    """The pair, with an automatic guide in the place of its own if one is asked for, and these settings."""
    pair = load_alone(name)
    if guide is not None:
        word = guide.strip().lower().replace("-", "_")
        automatic: Any = None if word in ("none", "auto") else word
        pair = pair._replace(guide=automatic)
    return with_settings(pair, settings, "--set ")


__all__ = ["Mistake", "main"]
