"""New rows from a CSV file, and what a fit predicts for them."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch

import credo
from credo.inference.inputs.call import positional_parameters
from credo.pairs import Pair
from credo.report.analysis import read_table, takes_table


def new_rows(pair: Pair, training: Path | None, path: Path) -> tuple[Any, ...]:
    """The arguments of the model at the rows of a file, without what is to be predicted.

    A pair whose `data(table)` prepares tables gets the new rows below those of the fit: what they become must not
    depend on each other. Raises ValueError where it does, and for a file without the columns of the fit.
    """
    if training is None and pair.data is not None:
        raise ValueError("--predict: the built-in data have no columns to read new rows by; give --data file.csv too")
    table = read_table(path)
    if training is None or pair.data is None or not takes_table(pair):
        return (table,)
    known = read_table(training)
    left_out = [name for name in known.columns if name not in table.columns]
    filled = table.assign(**{name: known[name].iloc[0] for name in left_out})[list(known.columns)]
    alone, both = tuple(pair.data(table=known)), tuple(pair.data(table=pd.concat([known, filled], ignore_index=True)))
    n, found = len(known), []
    for one, two, parameter in zip(alone, both, positional_parameters(pair.model), strict=False):
        if parameter.default is None:  # observed: what a prediction leaves out
            break
        if isinstance(one, torch.Tensor) and one.dim() and len(one) == n:
            if one.shape[1:] != two.shape[1:] or not torch.allclose(one.double(), two[:n].double(), rtol=1e-4):
                raise ValueError(
                    f"--predict: data(table) of {pair.name} prepares its rows together (it standardises them, say), so "
                    f"new rows cannot be prepared like those of the fit; standardise in the model, or predict in Python"
                )
            found.append(two[n:])
        else:
            found.append(None)  # a network: that of the fit
    return tuple(found)


def predictions(fit: credo.Fit, rows: tuple[Any, ...], seed: int) -> pd.DataFrame:
    """A row for each new row: mean, sd, and the ends of the central 90 % interval of what is predicted."""
    new = tuple(fit.data[i] if value is None else value for i, value in enumerate(rows))
    return fit.intervals(*new, seed=seed)
