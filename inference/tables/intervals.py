"""Predictive intervals: a row for each row of new data, in the units of the observations.

mean, sd = E[y*], sd[y*],   low, high: P(low <= y* <= high) = prob, with equal tails,   y* ~ p(y* | x*, data)
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd
import torch
from pyro import poutine

from ..distributions.summaries import quantiles
from ..distributions.unwrap import kind
from ..inputs.arguments import shown
from ..inputs.call import argument_names, by_name, settings_of
from ..inputs.draws import draws_and_data
from ..inputs.group_tables import group_tables
from ..inputs.labels import coded, lists_as_arrays
from ..inputs.tables import as_table
from ..posterior.approximation import Approximation
from ..posterior.coords import labels_of
from ..posterior.marginals import model_trace
from ..predictive.predict import OPTIONS, predict
from ..runtime.held import HeldSites
from ..runtime.sites import Site, is_factor, observed
from ..runtime.state import reading

CLASSES = ("Bernoulli", "Categorical", "OneHotCategorical", "OneHotCategoricalStraightThrough", "OrderedLogistic")
COLUMNS = ("mean", "sd", "low", "high")


def intervals(
    fit: Approximation,
    *new: Any,
    prob: float = 0.9,
    n: int | None = None,
    seed: int = 0,
    corrected: bool = False,
    batch: int | None = None,
    **named: Any,
) -> pd.DataFrame:
    """A table with the columns mean, sd, low and high of the predictive draws, in the units of the observations.

    P(low <= y* <= high) = prob for each row, with (1 - prob) / 2 on either side; noise of the observations included.
    new, named: the model's arguments, as for `credo.predict`; the observations may be left out, also of a table. If
        nothing is given, the rows of the fit.
    The table has the index of the new rows. Observed sites with several numbers a row have a row for each, and a level
    of the index more, called by the columns that they had in the fit. Several observed sites are told apart by the
    first level, "site". Classes (Bernoulli, Categorical) have a column for each instead, with its probability.
    n: the number of draws, in the first place or by name, 1,000 if it is left out; seed, corrected, batch: as for
        `credo.predict`. The error of the bounds is that of quantiles of n draws.
    Raises ValueError for a probability outside of (0, 1), and as `credo.predict` does.
    Source: Gelman et al. 2013, section 1.4.

    >>> import credo, pandas, torch
    >>> pair = credo.load("linear_regression")
    >>> fit = credo.fit(pair.model, None, *pair.data())
    >>> list(fit.intervals(prob=0.5).columns)
    ['mean', 'sd', 'low', 'high']
    """
    prob = probability("prob", prob)
    n, new = draws_and_data("intervals", new, n, least=2, fitted=fit.data)
    new = by_name(fit.model, new, named, ("prob", *OPTIONS))
    sites = {name: site for name, site in observed(_trace(fit)).items() if not is_factor(site)}
    if not sites:
        raise ValueError("intervals: the model observes nothing, so there is nothing to predict")
    most = max((_classes(site) for site in sites.values()), default=0)

    def reduced(draws: torch.Tensor) -> torch.Tensor:
        """(*shape, 4 + K): mean, sd, low, high, and the share of each of K values."""
        y = (draws.real if draws.is_complex() else draws).double()
        low, high = quantiles(y, ((1 - prob) / 2, (1 + prob) / 2))
        shares = [(y == k).double().mean(0) for k in range(most)]
        return torch.stack([y.mean(0), y.std(0), low, high, *shares], -1)

    found = predict(fit, *new, n=n, seed=seed, corrected=corrected, batch=batch, reduce=reduced)
    indices, labels = _indices(fit, new), labels_of(fit)
    tables = {
        name: _table(fit, name, site, found[name].cpu(), _of_rows(fit, indices, site), labels.get(name))
        for name, site in sites.items()
        if name in found
    }
    return next(iter(tables.values())) if len(tables) == 1 else pd.concat(tables, names=["site"])


def _trace(fit: Approximation) -> poutine.Trace:
    """The model on the data of the fit, at one draw: of the guide, or of a posterior that has none."""
    if hasattr(fit, "guide"):
        return model_trace(fit)
    drawn: dict[str, torch.Tensor] = fit.sample(1)
    with reading(fit.state, 0), torch.no_grad():
        held = HeldSites({name: value[0] for name, value in drawn.items()})
        return poutine.trace(held(fit.model)).get_trace(*fit.data)


def probability(name: str, value: Any) -> float:
    """A probability above 0 and below 1 as a float. Raises ValueError, which names the argument."""
    try:
        number = math.nan if isinstance(value, (str, bool)) else float(value)
    except (TypeError, ValueError, RuntimeError):  # what is no number, or several
        number = math.nan
    if not 0 < number < 1:
        meant = f"; did you mean {number / 100:g}?" if 1 < number < 100 else ""
        raise ValueError(f"{name}: got {shown(value)}, wanted a probability above 0 and below 1, such as 0.9{meant}")
    return number


def _classes(site: Site) -> int:
    """The number of classes that an observed site tells apart; 0 for numbers, also counts."""
    name = kind(site["fn"])
    if name not in CLASSES or name.startswith("OneHot"):
        return 0
    return 2 if name == "Bernoulli" else int(site["fn"].enumerate_support(expand=False).shape[0])


def _indices(fit: Approximation, new: tuple[Any, ...]) -> list[tuple[int | None, pd.Index]]:
    """(argument, its index) of the new data, None for a table of all arguments; without new data, of the fit's.

    Tables that describe groups have none. Indices with labels of their own come first.
    """
    if not new:
        return [(i, pd.Index(labels)) for i, labels in enumerate(fit.row_labels) if labels is not None]
    given = tuple(as_table(value) for value in new)
    if len(given) == 1:
        return [(None, value.index) for value in given if isinstance(value, (pd.DataFrame, pd.Series))]
    names = argument_names(fit.model, len(given))
    coded_data = coded(names, lists_as_arrays(names, given, settings_of(fit.model), fit.codes), fit.codes).values
    groups = group_tables(names, coded_data, fit.codes, fit.data)
    own = [
        (i, value.index)
        for i, (name, value) in enumerate(zip(names, given, strict=True))
        if isinstance(value, (pd.DataFrame, pd.Series)) and name not in groups
    ]
    return sorted(own, key=lambda pair: isinstance(pair[1], pd.RangeIndex))


def _of_rows(fit: Approximation, indices: Sequence[tuple[int | None, pd.Index]], site: Site) -> list[pd.Index]:
    """The indices of the arguments that had as many rows in the fit as the observations of this site."""
    rows = tuple(site["value"].shape[:1])
    lengths = [tuple(getattr(value, "shape", ()))[:1] for value in fit.data]
    some = any(length == rows for length in lengths)
    return [index for i, index in indices if i is None or not some or lengths[i] == rows]


def _table(
    fit: Approximation,
    name: str,
    site: Site,
    found: torch.Tensor,
    indices: Sequence[pd.Index],
    labels: Sequence[Sequence[str] | None] | None,
) -> pd.DataFrame:
    """The table of a site. found: (rows, ..., 4 + K)."""
    shape = found.shape[:-1]
    rows = next((rows for rows in indices if shape and len(rows) == shape[0]), pd.RangeIndex(shape[0] if shape else 1))
    columns = list(COLUMNS)
    if kind(site["fn"]).startswith("OneHot") and kind(site["fn"]) in CLASSES:
        found, shape, columns = found[..., 0], shape[:-1], [str(k) for k in range(shape[-1])]
    elif classes := _classes(site):
        found, columns = found[..., 4 : 4 + classes], _words(fit, site, classes)
    numbers = found.reshape(-1, len(columns)).numpy()
    if len(shape) > 1:
        known = list(labels) if labels is not None and len(labels) == len(shape) else [None] * len(shape)
        entries = [range(size) if w is None or len(w) != size else w for w, size in zip(known, shape, strict=True)][1:]
        levels = [rows.name if rows.nlevels == 1 else None, *(f"entry {i}" for i in range(1, len(shape)))]
        rows = pd.MultiIndex.from_tuples([(r, *e) for r in rows for e in product(*entries)], names=levels)
    return pd.DataFrame(numbers, index=rows, columns=columns)


def _words(fit: Approximation, site: Site, classes: int) -> list[Any]:
    """The names of the columns of classes: the labels of the observations, if they came as text, else numbers."""
    for name, value in zip(argument_names(fit.model, len(fit.data)), fit.data, strict=False):
        codes: Mapping[Any, list[Any]] = fit.codes
        if name in codes and len(codes[name]) == classes and isinstance(value, torch.Tensor):
            seen = site["value"]
            if seen.shape == value.shape and torch.equal(seen.double(), value.double()):
                return [str(label) for label in codes[name]]
    return [str(k) for k in range(classes)]
