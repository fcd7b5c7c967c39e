"""Rows that were prepared with others, as `data(table)` prepares those of the fit alone.

    x'(fit) = a x'(both) + b    gives a and b of each column,    x'(new) = a x'(both) + b

which holds where new rows move only the mean and the scale of a column. Two proofs are wanted, else the rows are
refused: the rows of the fit, put below as though they were new, come out as they are in the fit; and the new rows come
out the same however many rows stand above them. Codes of categories are never interpolated.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch

EXACT = 1e-4  # relative difference to which a column is a linear function of another, in single precision
Line = tuple[float, float]  # (a, b) of y = a x + b


class Refused(ValueError):
    """Rows of which it is not proven how the fit would have prepared them."""


def array(value: Any) -> np.ndarray | None:
    """The numbers or labels of an argument; None for what holds none, such as a network."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, pd.Series, pd.DataFrame, pd.Index, list)):
        return np.asarray(value)
    return None


def same(one: Any, two: Any) -> bool:
    """Whether two arguments are equal up to rounding; networks and the like always are."""
    here, there = array(one), array(two)
    if here is None or there is None:
        return not isinstance(one, (int, float, str)) or one == two
    if here.shape != there.shape or not (_numeric(here) and _numeric(there)):
        return here.shape == there.shape and bool((here == there).all())
    size = np.abs(here).max(initial=0)
    return bool((np.abs(here.astype(float) - there) <= EXACT * size).all())


def prepared(one: Any, two: Any, three: Any, raw: list[tuple[np.ndarray, np.ndarray]]) -> Any:
    """The new rows in the type of `one`.

    one: the n rows of the fit. two: these and m new rows below. three: these twice, and the new rows below.
    raw: the columns of numbers in the files, (n,) of the fit and (m,) of the new rows. Raises Refused.
    """
    here, both, twice = (np.asarray(array(value)) for value in (one, two, three))
    n = len(here)
    if here.shape[1:] != both.shape[1:] or here.shape[1:] != twice.shape[1:]:
        raise Refused("makes another number of columns of them, as of a category that the fit has not seen")
    flat = [part.reshape(len(part), -1).T for part in (here, both, twice)]
    columns = [_column(x, y, z, n, raw) for x, y, z in zip(*flat, strict=True)]
    new = np.stack(columns, -1).reshape(both[n:].shape) if columns else both[n:]
    if isinstance(one, torch.Tensor):
        return torch.tensor(new.astype(float)).to(one.dtype)
    if isinstance(one, pd.DataFrame):
        return pd.DataFrame(dict(zip(one.columns, columns, strict=True)))
    if isinstance(one, pd.Series):
        return pd.Series(new, name=one.name)
    return new.astype(here.dtype)


def _column(x: np.ndarray, y: np.ndarray, z: np.ndarray, n: int, raw: list[tuple[np.ndarray, np.ndarray]]) -> Any:
    """The new entries of a column: x (n,) in the fit, y (n + m,) and z (2 n + m,) with new ones below."""
    if not all(_numeric(part) for part in (x, y, z)):
        if not (np.array_equal(y[:n], x) and np.array_equal(z[:n], x) and np.array_equal(y[n:], z[2 * n :])):
            raise Refused("changes labels of the rows above them")
        return y[n:]
    codes = _dense(x)
    x, whole = x.astype(float), x.dtype.kind in "iub"
    line, again = line_of(x, y[:n].astype(float)), line_of(x, z[:n].astype(float))
    if line is None or again is None:
        raise Refused("prepares its rows together, and not by a shift and a scale of each column")
    new, other = (a * part.astype(float) + b for (a, b), part in ((line, y[n:]), (again, z[2 * n :])))
    repeated = again[0] * z[n : 2 * n].astype(float) + again[1]
    if not (_near(new, other, x) and _near(repeated, x, x)):
        raise Refused("prepares its rows together, and not by a shift and a scale of each column")
    if codes and not _near(y[:n].astype(float), x, x):
        raise Refused(
            "gives other codes to the rows of the fit beside them, as for a category that the fit has not seen"
        )
    if whole and not _near(new, new.round(), x):
        raise Refused("makes whole numbers of the rows of the fit, and others of these")
    if _evenly_spaced(x) and not _from_numbers(x, new, raw):
        known = np.unique(x)
        if (np.abs(new[:, None] - known).min(1) > EXACT * max(np.abs(known).max(), 1e-30)).any():
            raise Refused(
                "makes a value of them that no row of the fit has, as of a category that the fit has not seen"
            )
    return new.round() if whole else new


def _from_numbers(x: np.ndarray, new: np.ndarray, raw: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether a column is a shift and a scale of one of the files, in the rows of the fit and in the new ones."""
    for old, given in raw:
        line = line_of(x, old)
        if line is not None and _near(line[0] * given + line[1], new, x):
            return True
    return False


def _dense(x: np.ndarray) -> bool:
    """Whether these are whole numbers without a gap, from 0 or 1 on: codes of categories, or what may be such."""
    known = np.unique(x)
    return bool(known[0] in (0, 1) and np.array_equal(known, known[0] + np.arange(len(known))))


def _evenly_spaced(x: np.ndarray) -> bool:
    """Whether the values are those of codes in any units; one or two values always are."""
    known = np.unique(x)
    steps = np.diff(known)
    return len(known) < 3 or bool(steps.max() - steps.min() <= EXACT * steps.max())


def _near(one: np.ndarray, two: np.ndarray, x: np.ndarray) -> bool:
    size = np.maximum(np.abs(x).max(), np.maximum(np.abs(one), np.abs(two)))
    return bool((np.abs(one - two) <= EXACT * size).all())


def _numeric(values: np.ndarray) -> bool:
    return values.dtype.kind in "biuf"


def line_of(y: np.ndarray, x: np.ndarray) -> Line | None:
    """(a, b) with y = a x + b in all n rows, shape (n,) each; None if there are no such numbers."""
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    low, high = int(x.argmin()), int(x.argmax())
    a = float((y[high] - y[low]) / (x[high] - x[low])) if x[high] > x[low] else 1.0
    b = float(y[low] - a * x[low])
    size = max(np.abs(y - y.mean()).max(), EXACT * np.abs(y).max())
    return (a, b) if np.abs(a * x + b - y).max() <= EXACT * size and (a or size == 0) else None
