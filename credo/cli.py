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
from credo.pairs import Pair


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
        result = credo.fit(pair.model, pair.guide, *_data(pair, data), steps=steps, seed=seed, device=device)
        click.echo(result)
        table = result.summary()
        _show(table)
        _save(table, out, "summary")
        _pictures(pair, result, None, out)


@main.command()
@_options
def compare(name: str, data: Path | None, steps: int | None, seed: int, device: str | None, out: Path | None) -> None:
    """Fit the guide, and hold it against the exact posterior."""
    with _mistakes():
        pair = credo.load(name)
        if pair.posterior is None:
            raise Mistake(f"{name}: no exact posterior is known; write a function posterior(*data) beside the model")
        arguments = _data(pair, data)
        result = credo.fit(pair.model, pair.guide, *arguments, steps=steps, seed=seed, device=device)
        click.echo(result)
        _compare(pair, result, out)


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def demo(out: Path, seed: int) -> None:
    """Every pair on its built-in data: plan, fit, comparison, pictures."""
    start = time.perf_counter()
    torch.set_num_threads(1)  # small tensors: threads wait for one another, on a busy machine for minutes
    with _mistakes():
        for name in credo.names():
            pair = credo.load(name)
            if pair.data is None:
                continue
            click.secho(f"\n{name}", bold=True)
            result = credo.fit(pair.model, pair.guide, *pair.data(), seed=seed)
            _show(result.plan.frame[["distribution", "estimator", "term", "reason"]])
            click.echo(result)
            if pair.posterior is not None:
                _compare(pair, result, out / name)
            else:
                _show(result.summary())
                _pictures(pair, result, None, out / name)
    click.echo(f"\n{time.perf_counter() - start:.0f} s; tables and pictures are in {out}/")


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
    if pair.data is not None and inspect.signature(pair.data).parameters:
        return pair.data(table)
    return (table,)


def _compare(pair: Pair, result: credo.Fit, out: Path | None) -> None:
    table = credo.compare(result)
    _show(table)
    a = table.attrs
    click.echo(
        f"log evidence {a['log_evidence']:,.3f}, ELBO {a['elbo']:,.3f} ± {a['elbo_error']:.3f}: "
        f"the guide is {a['evidence_gap']:.3f} ± {a['elbo_error']:.3f} nats from the exact posterior"
    )
    _save(table, out, "compare")
    assert pair.posterior is not None
    _pictures(pair, result, (pair.posterior(*result.data), table), out)


def _pictures(pair: Pair, result: credo.Fit, exact: Any, out: Path | None) -> None:
    """The loss, the belief, the prediction, and the pair's own lesson where it has one."""
    lesson = getattr(sys.modules[pair.model.__module__], "lesson", None)
    table = lesson(*result.data) if lesson else None
    if table is not None and not {"mle", "map", "bayes", "sd"} <= set(table.columns):
        _show(table)
        table = None
    if table is not None:
        _show(table)
        _save(table, out, "lesson")
    if out is None:
        return
    from matplotlib.figure import Figure

    def draw(name: str, plot: Callable[[Any], Any], size: tuple[float, float] = (6, 4)) -> None:
        figure = Figure(figsize=size, layout="constrained")
        plot(figure.subplots())
        figure.savefig(out / f"{name}.png", dpi=150)

    out.mkdir(parents=True, exist_ok=True)
    posterior, compared = exact or (None, None)
    draw("loss", lambda ax: credo.plots.losses(result, ax))
    scalars = [site for site, values in result.sample(1).items() if values.dim() == 1]
    if table is not None:
        draw("lesson", lambda ax: credo.plots.lesson(table, ax))
    if scalars:
        points = {k.upper(): v for k, v in table.iloc[-1][["mle", "map"]].items()} if table is not None else None
        draw("belief", lambda ax: credo.plots.belief(result, scalars[0], exact=posterior, points=points, ax=ax))
    if compared is not None and len(compared) > 1:
        draw("intervals", lambda ax: credo.plots.intervals(compared, ax), (6, 1 + 0.35 * len(compared)))
    try:
        draw("predictive", lambda ax: credo.plots.predictive(result, ax=ax))
    except ValueError:  # not a regression
        (out / "predictive.png").unlink(missing_ok=True)


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
