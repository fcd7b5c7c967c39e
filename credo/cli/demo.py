"""`credo demo`: every pair on one page."""

import time
from pathlib import Path

import click

import credo
from credo.cli.mistakes import Mistake, mistakes
from credo.cli.options import SEED, demo_folder, options
from credo.pairs import description


@click.command()
@options(
    demo_folder,
    SEED,
    click.option("--only", multiple=True, metavar="NAME", help="Fit this pair only; repeat the option for more pairs."),
)
def demo(out: Path, seed: int, only: tuple[str, ...]) -> None:
    """Fit every pair to its built-in data; write plans, tables and pictures to one page, OUT/index.html."""
    import torch

    from credo.report.analysis import analyse, fit_pair, oracle
    from credo.report.page import PLAN, Section, write
    from credo.report.tables import show

    start = time.perf_counter()
    torch.set_num_threads(1)  # with small tensors, threads wait for each other; on a busy machine for minutes
    sections: list[Section] = []
    failed: list[Exception] = []
    with mistakes():
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
            exact = None if pair.posterior is None else oracle(pair, result, False, seed)
            analyse(pair, section, out / pair.name, exact)
        except Exception as error:
            failed.append(error)
            section.error = f"{type(error).__name__}: {error}"
            click.echo(f"{pair.name} failed: {section.error}", err=True)
    seconds = time.perf_counter() - start
    page = write(out, sections, f"credo {credo.__version__}, seed {seed}; fitted and drawn in {seconds:.0f} s.")
    click.echo(f"\n{seconds:.0f} s; tables and pictures are in {out}/; open {page}")
    if failed:
        with mistakes():
            raise failed[0]
