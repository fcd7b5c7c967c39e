"""Tables that describe groups, a row for each: `uranium[county]` reads them by the codes of the groups.

Such a table has an index of labels that codes stand for. Its rows are put in the order of the codes; rows of
observations, which may have the same labels as their index, stay where they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .labels import Labels, listed


def group_tables(
    names: Sequence[str], data: tuple[Any, ...], codes: Labels, fitted: tuple[Any, ...] = ()
) -> dict[str, str]:
    """{argument: the argument of codes} for the tables with a row for each group.

    fitted: the data of the fit, if these are new data: what had other rows than its codes in the fit describes groups,
    and what had as many does not. Where that does not say it, a table of another length than the codes describes
    groups; one of the same length does if its index has exactly their labels, and is not that of the rows.
    Raises ValueError for a table whose rows may be those of the observations or those of the groups.
    """
    found: dict[str, str] = {}
    for key, labels in codes.items():
        if key not in names:
            continue
        at = names.index(key)
        for i, (name, value) in enumerate(zip(names, data, strict=True)):
            if i == at or not isinstance(value, (pd.DataFrame, pd.Series)):
                continue
            index = value.index
            plain = isinstance(index, (pd.RangeIndex, pd.MultiIndex)) or not index.is_unique
            if plain or not any(label in index for label in labels):
                continue
            described = _in_the_fit(fitted, at, i, len(labels))
            if described is None:
                described = np.shape(value)[:1] != np.shape(data[at])[:1] or _by_index(
                    name, index, key, labels, data[at]
                )
            if described:
                found[name] = key
    return found


def in_order_of_codes(
    names: Sequence[str], data: tuple[Any, ...], codes: Labels, groups: Mapping[str, str]
) -> tuple[Any, ...]:
    """The data with the rows of tables that describe groups in the order of the codes of these groups.

    groups: as `group_tables` returns them. Labels that no row of the data has are left out.
    Raises ValueError, which names them, for labels of the data that are missing in the index.
    """
    ordered = list(data)
    for name, key in groups.items():
        value = data[names.index(name)]
        missing = [label for label in codes[key] if label not in value.index]
        if missing:
            raise ValueError(
                f"{name}: its index holds labels of {key}, but not {missing[0]!r}; add a row for each of the "
                f"{len(codes[key])} labels, or pass it with .to_numpy() if it does not describe them"
            )
        ordered[names.index(name)] = value.loc[codes[key]]
    return tuple(ordered)


def _in_the_fit(fitted: tuple[Any, ...], at: int, i: int, labels: int) -> bool | None:
    """Whether argument i had other rows than the codes, argument `at`; None if the fit does not tell."""
    shapes = [tuple(getattr(v, "shape", ())) for v in fitted]
    if max(at, i) >= len(shapes) or not (shapes[at] and shapes[i]):
        return None
    if shapes[at][0] != shapes[i][0]:
        return True
    return None if shapes[at][0] == labels else False


def _by_index(name: str, index: pd.Index, key: str, labels: list[Any], codes: Any) -> bool:
    """Whether a table with as many rows as the codes describes groups: its index is theirs, not that of the rows."""
    own = codes.index if isinstance(codes, (pd.DataFrame, pd.Series)) else None
    if set(index) != set(labels) or (own is not None and set(own) == set(index)):
        return False
    rows = [
        labels[int(k)] if 0 <= k < len(labels) else None
        for k in np.ravel(codes.cpu() if hasattr(codes, "cpu") else codes)
    ]
    in_rows = rows == list(index)
    if in_rows and (own is None or rows == labels):
        return False
    if not in_rows and own is not None:
        return True
    raise ValueError(
        f"{name}: its index has the labels of {key}, and it has as many rows as {key}, so it is not clear whether "
        f"its rows describe these labels or are those of {key}. Pass {name}.loc[labels].to_numpy() if they describe "
        f"labels, in the order of the codes {listed(labels)}; or {name}.to_numpy() if row k belongs to row k of {key}"
    )
