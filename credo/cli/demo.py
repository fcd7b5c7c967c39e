"""`credo demo`: every pair on one page, which is written anew after each pair."""

import math
import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

import credo
from credo.cli.mistakes import Mistake, mistakes
from credo.cli.options import SEED, demo_folder, options
from credo.pairs import Pair, description

if TYPE_CHECKING:
    from credo.report.page import Section

QUICK, ROWS = 300, 2000  # steps of a quick fit, and rows of its data
SMALL = 100_000  # rows times numbers of a network, up to which a quick fit runs until it stops by itself, too
RELOAD = 5  # seconds, until a browser reloads a page that is not finished
INTERRUPTED = 130  # exit code after Ctrl-C
QUICK_NOTE = (
    f"A quick look: fits of networks were ended after {QUICK} steps, and data cut to the first {ROWS:,} rows. The "
    f"numbers of a fit that has not converged mean little; “stopped” and “trust” say which fits those are. Without "
    f"--quick each fit takes all data and runs until it stops by itself, and so does the command below each pair."
)


@click.command()
@options(
    demo_folder,
    SEED,
    click.option("--only", multiple=True, metavar="NAME", help="Fit this pair only; repeat the option for more pairs."),
    click.option(
        "--quick",
        is_flag=True,
        help=f"A look within half a minute: {ROWS:,} rows of the data at most, and {QUICK} steps for networks, which "
        f"ends them before they have converged.",
    ),
)
def demo(out: Path, seed: int, only: tuple[str, ...], quick: bool) -> None:
    """Fit every pair to its built-in data; write plans, tables and pictures to one page, OUT/index.html.

    The page is written after each pair, the pair with the least work first (with --only, in the order given). Ctrl-C
    leaves the page with the pairs that are done.
    """
    start = time.perf_counter()
    page = out / "index.html"
    click.echo(f"credo {credo.__version__}: each pair of a model and a guide is fitted to its built-in data.")
    click.echo(f"The page grows with each pair: {page}")
    click.echo("Ctrl-C ends the demo and leaves the page with what is done.")
    import torch

    from credo.report.page import Section, write

    torch.set_num_threads(1)  # with small tensors, threads wait for each other; on a busy machine for minutes
    failed: list[Exception] = []
    with mistakes():
        pairs = [credo.load(name) for name in only or credo.names()]
        if missing := [pair.name for pair in pairs if pair.data is None and only]:
            raise Mistake(f"{missing[0]}: has no built-in data; use credo fit {missing[0]} --data file.csv")
        texts = dict(zip((pair.name for pair in pairs), map(description, only or credo.names()), strict=True))
        pairs = [pair for pair in pairs if pair.data is not None]
        pairs = pairs if only else sorted(pairs, key=_work_of)
        given = {Path(name).stem if name.endswith(".py") else name: name for name in only}
        sections = [Section(pair.name, texts[pair.name], waiting="to come") for pair in pairs]

        def write_page(reload: int = 0) -> None:
            done = sum(not section.waiting for section in sections)
            seconds = f"{time.perf_counter() - start:.0f} s"
            footer = f"credo {credo.__version__}, seed {seed}; {done} of {len(pairs)} pairs in {seconds}."
            note = f"{QUICK_NOTE} " if quick else ""
            note += f"This page is not finished; it reloads itself every {reload} s." if reload else ""
            write(out, sections, footer, note=note.strip(), reload=reload)

        try:
            for number, (pair, section) in enumerate(zip(pairs, sections, strict=True), 1):
                begun = time.perf_counter()
                section.waiting = "being fitted"
                write_page(RELOAD)
                click.secho(f"\n[{number}/{len(pairs)}] {pair.name}", bold=True)
                try:
                    _run(pair, section, out / pair.name, seed, quick, given.get(pair.name, pair.name))
                except Exception as error:
                    failed.append(error)
                    section.error = f"{type(error).__name__}: {error}"
                    click.echo(f"{pair.name} failed: {section.error}", err=True)
                section.waiting = ""
                write_page(RELOAD if number < len(pairs) else 0)
                click.echo(_done(section, time.perf_counter() - begun, page))
        except KeyboardInterrupt:
            for section in sections:
                section.waiting = section.waiting and "not fitted"
            write_page()
            done = sum(not section.waiting for section in sections)
            click.echo(f"\nEnded by Ctrl-C; {done} of {len(pairs)} pairs are on {page}", err=True)
            raise SystemExit(INTERRUPTED) from None
        click.echo(f"\n{time.perf_counter() - start:.0f} s; tables and pictures are in {out}/; open {page}")
        if failed:
            raise failed[0]


def work(data: tuple[Any, ...]) -> float:
    """The work of a step, by which pairs are ordered: rows of the data times (1 + numbers of its networks)."""
    import torch

    networks = [v for v in data if isinstance(v, torch.nn.Module)]
    return max(map(_rows, data), default=1) * (1 + sum(p.numel() for net in networks for p in net.parameters()))


def _work_of(pair: Pair) -> float:
    """The work of a pair; infinite where its data cannot be made: the error is shown when its turn comes."""
    try:
        return work(() if pair.data is None else pair.data())
    except Exception:
        return math.inf


def first_rows(data: tuple[Any, ...], most: int) -> tuple[Any, ...]:
    """At most so many rows of each tensor or table that has as many rows as the longest of them."""
    longest = max(map(_rows, data), default=1)
    return tuple(v[:most] if longest > most and _rows(v) == longest else v for v in data)


def _rows(value: Any) -> int:
    """Rows of a tensor or a table; 1 for what has none."""
    shape = getattr(value, "shape", ())
    return int(shape[0]) if isinstance(shape, tuple) and shape else 1


def _run(pair: Pair, section: "Section", out: Path, seed: int, quick: bool, name: str) -> None:
    """Fits the pair, prints and stores tables and pictures. Raises KeyboardInterrupt after a fit that Ctrl-C ended.

    name: of the pair on the command line, perhaps the path of a file.
    """
    from credo.inference.variational.loop import INTERRUPTED as BY_CTRL_C
    from credo.report.analysis import analyse, arguments, fit_pair, oracle
    from credo.report.mnist import mnist_pictures
    from credo.report.tables import say, show_plan

    command = "fit" if pair.posterior is None else "compare"
    section.command = f"credo {command} {quote(name)} --seed {seed} --out {quote(str(out))}"
    data = arguments(pair, None)
    data = first_rows(data, ROWS) if quick else data
    short: dict[str, Any] = {"steps": QUICK} if quick and work(data) > SMALL else {}
    result = fit_pair(pair, section, data, seed=seed, **short)
    if result.stopped.startswith(BY_CTRL_C):
        raise KeyboardInterrupt
    say(repr(result.verdict))
    show_plan(result.plan.frame)
    exact = None if pair.posterior is None else oracle(pair, result, False, seed)
    analyse(pair, section, out, exact)
    if not quick:
        section.pictures = [*section.pictures, *mnist_pictures(pair, out, seed)]


def _done(section: "Section", seconds: float, page: Path) -> str:
    """The line at the end of a pair."""
    if section.error:
        return f"{section.name}: failed after {seconds:.1f} s; {page}"
    rest = seconds - section.seconds
    return f"{section.name}: fitted in {section.seconds:.1f} s, tables and pictures in {rest:.1f} s; {page}"
