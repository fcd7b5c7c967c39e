"""The command line: credo list | plan NAME | fit NAME | compare NAME | demo."""

import inspect
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch

import credo
from credo.inference.posterior.marginals import means_and_sds
from credo.inference.runtime.state import reading
from credo.pairs import Pair
from credo.report.gallery import gallery
from credo.report.held_out import beside, scores
from credo.report.page import PLAN, Section, write

LONGEST = 40  # scalars of a fit that are shown one by one


class Mistake(click.ClickException):
    """Something the user can put right: the message alone, no traceback, exit code 2."""

    exit_code = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(credo.__version__)
def main() -> None:
    """Bayesian deep learning on Pyro: a model, a guide, and whether to believe the answer.

    NAME is one of `credo list`, or the path of a .py file that holds `model`, `guide` and, if it likes, `data`.
    """


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.argument("name"),
            click.option(
                "--data", type=click.Path(path_type=Path), help="CSV whose columns are the model's arguments."
            ),
            click.option("--steps", type=int, help="Number of steps; until converged if left out."),
            click.option("--seed", type=int, default=0, show_default=True),
            click.option("--device", help="cpu, cuda, ...; CUDA if there is one if left out."),
            click.option("--out", type=click.Path(path_type=Path), help="Folder for tables (CSV) and pictures (PNG)."),
        )
    ):
        command = option(command)
    return command


@main.command("list")
def list_() -> None:
    """The pairs that come with credo."""
    for name in credo.names():
        title = (inspect.getdoc(sys.modules[credo.load(name).model.__module__]) or "").splitlines()[0]
        click.echo(f"{name:<24}{title}")


@main.command()
@_options
def plan(name: str, data: Path | None, steps: int | None, seed: int, device: str | None, out: Path | None) -> None:
    """Which gradient estimator each latent gets, and why."""
    with _mistakes():
        pair = credo.load(name)
        table = credo.plan(pair.model, pair.guide, *_data(pair, data), seed=seed, device=device).frame
        _show(table.T if len(table) == 1 else table)
        _save(table, out, "plan")


@main.command()
@_options
def fit(name: str, data: Path | None, steps: int | None, seed: int, device: str | None, out: Path | None) -> None:
    """Fit the guide, and summarise what it believes."""
    with _mistakes():
        pair = credo.load(name)
        section, arguments = Section(name), _data(pair, data)
        _fit(pair, section, arguments, steps=steps, seed=seed, device=device)
        _examine(pair, section, out, exact=False)


@main.command()
@_options
def compare(name: str, data: Path | None, steps: int | None, seed: int, device: str | None, out: Path | None) -> None:
    """Fit the guide, and hold it against the exact posterior."""
    with _mistakes():
        pair = credo.load(name)
        if pair.posterior is None:
            raise Mistake(f"{name}: no exact posterior is known; write a function posterior(*data) beside the model")
        section, arguments = Section(name), _data(pair, data)
        _fit(pair, section, arguments, steps=steps, seed=seed, device=device)
        _examine(pair, section, out, exact=True)


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--only", multiple=True, metavar="NAME", help="This pair alone; may be given again for more.")
def demo(out: Path, seed: int, only: tuple[str, ...]) -> None:
    """Every pair on its built-in data: plan, fit, comparison, pictures, and a page that shows them: OUT/index.html."""
    start = time.perf_counter()
    torch.set_num_threads(1)  # small tensors: threads wait for one another, on a busy machine for minutes
    sections: list[Section] = []
    failed: list[Exception] = []
    with _mistakes():
        pairs = [credo.load(name) for name in only or credo.names()]
        if missing := [pair.name for pair in pairs if pair.data is None and only]:
            raise Mistake(f"{missing[0]}: has no built-in data; use credo fit {missing[0]} --data file.csv")
    for pair in pairs:
        if pair.data is None:
            continue
        command = "fit" if pair.posterior is None else "compare"
        sections.append(section := Section(pair.name, inspect.getdoc(sys.modules[pair.model.__module__]) or ""))
        section.command = f"credo {command} {pair.name} --seed {seed} --out {out / pair.name}"
        click.secho(f"\n{pair.name}", bold=True)
        try:
            result = _fit(pair, section, pair.data(), seed=seed)
            _show(result.plan.frame[PLAN])
            _examine(pair, section, out / pair.name, exact=pair.posterior is not None)
        except Exception as error:
            failed.append(error)
            section.error = f"{type(error).__name__}: {error}"
            click.echo(f"{pair.name} failed: {section.error}", err=True)
    seconds = time.perf_counter() - start
    page = write(out, sections, f"credo {credo.__version__}, seed {seed}; fitted and drawn in {seconds:.0f} s.")
    click.echo(f"\n{seconds:.0f} s; tables and pictures are in {out}/, to be looked at in {page}")
    if failed:
        with _mistakes():
            raise failed[0]


@contextmanager
def _mistakes() -> Iterator[None]:
    try:
        yield
    except click.ClickException:
        raise
    except credo.Diverged as error:
        raise Mistake(str(error)) from None
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        if not notes and not isinstance(error, (ValueError, OSError)):
            raise
        kind = "" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: "
        message = str(error).split("\nTrace Shapes:")[0].rstrip()  # Pyro's appendix
        raise Mistake("\n".join([kind + message, *notes])) from None


def _data(pair: Pair, path: Path | None) -> tuple[Any, ...]:
    """The built-in data, or a CSV file: prepared by the pair's own `data(table)` where it takes one."""
    if path is None:
        if pair.data is None:
            raise Mistake(f"{pair.name}: has no built-in data; pass --data file.csv")
        return pair.data()
    try:
        table = pd.read_csv(path)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise Mistake(f"{path}: cannot be read as a CSV file ({error})") from None
    if table.empty:
        raise Mistake(f"{path}: has no rows; wanted a header line with column names, and data below it")
    if pair.data is not None and "table" in inspect.signature(pair.data).parameters:
        return pair.data(table=table)
    return (table,)


def _fit(pair: Pair, section: Section, arguments: tuple[Any, ...], **settings: Any) -> credo.Fit:
    start = time.perf_counter()
    section.fit = credo.fit(pair.model, pair.guide, *arguments, **settings)
    section.seconds = time.perf_counter() - start
    click.echo(section.fit)
    return section.fit


def _examine(pair: Pair, section: Section, out: Path | None, exact: bool) -> None:
    """Everything there is to say of a fit: shown, saved if there is a folder, and kept in the section."""
    fit, posterior, compared = section.fit, None, None
    assert fit is not None

    def keep(heading: str, name: str, table: pd.DataFrame) -> None:
        section.tables[heading] = table
        _show(table)
        _save(table, out, name)

    if exact and pair.posterior is not None:
        with reading(fit.state, fit.seed):  # networks with the weights of the fit
            posterior = pair.posterior(*fit.data)
        compared = credo.compare(fit, posterior)
        keep("Beside the exact posterior", "compare", compared)
        a = compared.attrs
        section.gap = (
            f"log evidence {a['log_evidence']:,.3f}, ELBO {a['elbo']:,.3f} ± {a['elbo_error']:.3f}: "
            f"the guide is {a['evidence_gap']:.3f} ± {a['elbo_error']:.3f} nats from the exact posterior"
        )
        click.echo(section.gap)
    else:
        keep("What is believed", "summary", _summary(fit))
    section.scores = scores(fit)
    if section.scores is not None:
        said = ", ".join(f"{name} {value:.4g}" for name, value in section.scores.items())
        click.echo(f"{section.scores.name}: {said}")
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


def _summary(fit: credo.Fit) -> pd.DataFrame:
    """A row for each scalar; of more than can be read, a row for each site."""
    shapes = {name: values.shape[1:] for name, values in fit.sample(1).items()}
    if sum(shape.numel() for shape in shapes.values()) <= LONGEST:
        return fit.summary()
    found = means_and_sds(fit, 400, 0)
    table = pd.DataFrame(
        {
            "numbers": {name: shape.numel() for name, shape in shapes.items()},
            "mean |mean|": {name: mean.abs().mean().item() for name, (mean, _) in found.items()},
            "mean sd": {name: sd.mean().item() for name, (_, sd) in found.items()},
        }
    )
    return table.rename_axis("site")


def _show(table: pd.DataFrame) -> None:
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.max_colwidth", None):
        click.echo(table.to_string(float_format=lambda v: f"{v:.4g}", max_rows=40))


def _save(table: pd.DataFrame, out: Path | None, name: str) -> None:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        table.to_csv(out / f"{name}.csv")
        click.echo(f"written: {out / name}.csv")


if __name__ == "__main__":
    main()
