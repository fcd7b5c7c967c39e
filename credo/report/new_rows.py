"""New rows from a CSV file, and what a fit predicts for them.

A pair whose `data(table)` prepares tables may standardise them: x' = (x - mean) / sd by the rows of the table. New rows
must be prepared by the rows of the fit, so they are put below them, and what that changed is undone:

    x'(fit) = a x'(both) + b    gives a and b of each column,    x'(new) = a x'(both) + b
"""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

import credo
from credo.inference.inputs.call import positional_parameters
from credo.pairs import Pair
from credo.report.analysis import read_table, takes_table

EXACT = 1e-4  # relative difference to which a column is a linear function of another, in single precision
COLUMNS = ["mean", "sd", "low", "high"]


class NewRows(NamedTuple):
    """The arguments of the model at new rows, and the units of its observations: y = scale y' + shift."""

    arguments: tuple[Any, ...]  # None for what is not rows, a network: that of the fit
    scale: float = 1.0
    shift: float = 0.0


def new_rows(pair: Pair, training: Path | None, path: Path) -> NewRows:
    """The arguments of the model at the rows of a file, without what is to be predicted.

    Raises ValueError for a file without the columns of the fit, and for a pair that prepares rows so that what becomes
    of one depends on the others in more than a shift and a scale of each column.
    """
    if training is None and pair.data is not None:
        raise ValueError("--predict: the built-in data have no columns to read new rows by; give --data file.csv too")
    table = read_table(path)
    if training is None or pair.data is None or not takes_table(pair):
        return NewRows((table,))
    known = read_table(training)
    filled = table.assign(**{name: known[name].iloc[0] for name in known.columns if name not in table.columns})
    both = pd.concat([known, filled[list(known.columns)]], ignore_index=True)
    n = len(known)
    found: list[torch.Tensor | None] = []
    for one, two, parameter in zip(
        pair.data(table=known), pair.data(table=both), positional_parameters(pair.model), strict=False
    ):
        rows = isinstance(one, torch.Tensor) and one.dim() and len(one) == n
        if parameter.default is None:  # observed: what a prediction leaves out
            return NewRows(tuple(found), *(_units(one, known) if rows and one.dim() == 1 else ()))
        found.append(_prepared(pair.name, one, two) if rows else None)
    return NewRows(tuple(found))


def _prepared(name: str, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """The rows of `two` (n + m, ...) after the first n, prepared as those of `one` (n, ...) are."""
    n = len(one)
    if one.shape[1:] == two.shape[1:]:
        columns = []
        for here, there in zip(one.reshape(n, -1).T.double(), two.reshape(len(two), -1).T.double(), strict=True):
            columns.append(_line(here, there[:n]))
        if all(line is not None for line in columns):
            a, b = torch.tensor([line or (1.0, 0.0) for line in columns]).double().T
            new = two[n:].reshape(len(two) - n, -1).double() * a + b
            return new.reshape(two[n:].shape).to(one.dtype)
    raise ValueError(
        f"--predict: data(table) of {name} prepares its rows together, and not by a shift and a scale of each column, "
        f"so new rows cannot be prepared like those of the fit; prepare them in Python, and call fit.intervals"
    )


def _units(y: torch.Tensor, table: pd.DataFrame) -> tuple[float, float]:
    """(scale, shift) of y (n,) to the column of the table that it was made of; (1, 0) where there is none."""
    for _, column in table.select_dtypes("number").items():
        line = _line(torch.tensor(column.to_numpy(float)), y.double())
        if line is not None:
            return line
    return 1.0, 0.0


def _line(y: torch.Tensor, x: torch.Tensor) -> tuple[float, float] | None:
    """(a, b) with y = a x + b in all n rows, shape (n,) each; None if there are no such numbers."""
    low, high = int(x.argmin()), int(x.argmax())
    a = ((y[high] - y[low]) / (x[high] - x[low])).item() if x[high] > x[low] else 1.0
    b = (y[low] - a * x[low]).item()
    size = max((y - y.mean()).abs().max().item(), EXACT * y.abs().max().item())
    return (a, b) if (a * x + b - y).abs().max().item() <= EXACT * size and (a or size == 0) else None


def predictions(fit: credo.Fit, rows: NewRows, seed: int) -> pd.DataFrame:
    """A row for each new row: mean, sd, and the ends of the central 90 % interval of what is predicted.

    In the units of the column that the observations were made of; for classes the probability of each.
    """
    new = (fit.data[i] if value is None else value for i, value in enumerate(rows.arguments))
    table = fit.intervals(*new, seed=seed)
    if list(table.columns) != COLUMNS or (rows.scale, rows.shift) == (1.0, 0.0):
        return table
    table[["mean", "low", "high"]] = rows.scale * table[["mean", "low", "high"]] + rows.shift
    table["sd"] *= abs(rows.scale)
    if rows.scale < 0:
        table[["low", "high"]] = table[["high", "low"]].to_numpy()
    return table
