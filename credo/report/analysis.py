"""One pair from data to report, as the command line runs it: fit, tables, scores and pictures."""

import inspect
import math
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

import credo
from credo.inference.evaluation.oracle import find_oracle
from credo.inference.inputs.beside import beside
from credo.inference.inputs.call import required
from credo.inference.inputs.files import csv_table, is_csv, is_parquet, table_of_file
from credo.inference.posterior.marginals import means_and_sds
from credo.inference.posterior.sample import guide_draws
from credo.inference.runtime.state import reading
from credo.inference.storage.absent import Absent
from credo.inference.streaming.sizes import WINDOW
from credo.pairs import Pair
from credo.report.gallery import gallery
from credo.report.held_out import scores
from credo.report.page import Section
from credo.report.tables import save, say, show

LONGEST = 40  # scalars of a fit that get a row each


def arguments(pair: Pair, path: Path | None) -> tuple[Any, ...]:
    """The model's arguments: the built-in data, or a file, which goes through `data(table)` if the pair has it.

    Raises ValueError for a pair without built-in data, and for a file that cannot be read, has no rows, two columns of
    one name, or rows that are longer than its header.
    """
    if path is not None:
        if not takes_table(pair) or pair.data is None:
            large = is_csv(path) and path.stat().st_size > WINDOW
            return (path if is_parquet(path) or large else csv_table(path),)  # paths are read by the fit
        table = table_of_file(path) if is_parquet(path) else csv_table(path)
        return _named(pair, _from(pair.data(table=table)), table)
    if pair.data is not None:
        return _named(pair, _from(pair.data()))
    if not required(pair.model):
        return ()  # a model without data
    raise ValueError(f"{pair.name}: has no built-in data; pass --data file.csv")


def takes_table(pair: Pair) -> bool:
    """Whether `data(table)` of the pair makes the model's arguments of a table."""
    return pair.data is not None and "table" in inspect.signature(pair.data).parameters


def _named(pair: Pair, data: tuple[Any, ...], *table: pd.DataFrame) -> tuple[Any, ...]:
    """The arguments, the first as a table with the names that `columns(table)` of the pair gives, if it has it."""
    columns = beside(pair.model, "columns")
    if columns is None:
        return data
    return (pd.DataFrame(data[0].numpy(), columns=columns(*table)), *data[1:])


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
    say(repr(section.fit))
    if section.fit.seeds is not None:
        show(section.fit.seeds.drop(columns="stopped"))
    return section.fit


def refuse_no_oracle(pair: Pair, data: tuple[Any, ...]) -> None:
    """Raises ValueError, before a fit, for a pair with which no exact posterior is known."""
    if pair.posterior is None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the fit warns of the data
                credo.exact(pair.model, *data)
        except (credo.NoClosedForm, NotImplementedError) as error:
            first = (str(error) or "the model cannot be drawn from its prior").splitlines()[0]
            raise ValueError(
                f"{pair.name}: no exact posterior is known: {first}. Draw from it by NUTS, --reference; or define a "
                f"function posterior(*data) in the model's file"
            ) from None


def oracle(pair: Pair, fit: credo.Fit, reference: bool, seed: int, progress: bool = True) -> Any:
    """The posterior that a fit is compared with: that of the pair, else of credo.exact; with reference, NUTS draws."""
    if reference:
        return credo.reference(pair.model, *fit.data, seed=seed, progress=progress)
    if pair.posterior is None:
        return find_oracle(fit, seed)[0]
    with reading(fit.state, fit.seed):  # networks with the weights of the fit
        return pair.posterior(*fit.data)


def analyse(pair: Pair, section: Section, out: Path | None, posterior: Any = None) -> None:
    """Prints all tables of the section's fit, stores them in the section, and saves tables and pictures to `out`.

    posterior: what the fit is compared with, if anything. out: None saves nothing.
    """
    fit, compared = section.fit, None
    assert fit is not None

    def keep(heading: str, name: str, table: pd.DataFrame) -> None:
        section.tables[heading] = table
        show(table)
        save(table, out, name)

    if posterior is not None:
        compared = credo.compare(fit, posterior)
        keep("Compared with the exact posterior", "compare", compared)
        a = compared.attrs
        if not math.isnan(a["log_evidence"]):  # of draws it is not known
            gap = round(a["evidence_gap"], 3) + 0.0  # no minus before zero
            section.gap = (
                f"log evidence {a['log_evidence']:,.3f}, ELBO {a['elbo']:,.3f} ± {a['elbo_error']:.3f}: "
                f"the guide is {gap:.3f} ± {a['elbo_error']:.3f} nats from the exact posterior"
            )
            say(section.gap)
    else:
        keep("Posterior summary", "summary", _summary(fit))
    apart = fit.data.streamed if isinstance(fit.data, Absent) else 0
    if apart:
        say(f"scores and pictures are left out: the run read its {apart:,} rows by windows and keeps few of them")
    section.scores = None if apart else scores(fit)
    if section.scores is not None:
        values = ", ".join(f"{name} {value:.4g}" for name, value in section.scores.items())
        say(f"{section.scores.name}: {values}")
    if fit.seeds is not None:
        save(fit.seeds, out, "seeds")
    lesson, report = beside(pair.model, "lesson"), beside(pair.guide, "report")
    table = None
    if lesson is not None and not apart:
        with reading(fit.state, fit.seed):
            table = lesson(*fit.data, **_settings(fit.model, lesson))
        keep("Lesson", "lesson", table)
    if report is not None:
        keep("Report", "report", report(fit.params))
    if out is not None and not apart:
        drawn = None if isinstance(posterior, credo.Reference) else posterior  # draws have no density
        section.pictures = gallery(fit, out, drawn, compared, table)


def _settings(model: Any, function: Any) -> dict[str, Any]:
    """The settings that a model was bound to by functools.partial, as far as a function of its file takes them."""
    bound = getattr(model, "keywords", {})
    return {name: value for name, value in bound.items() if name in inspect.signature(function).parameters}


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
