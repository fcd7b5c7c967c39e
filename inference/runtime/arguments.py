"""Converts the user's data (tensors, arrays, tables) into the arguments of the model, tensors on one device.

Integers stay integers, for they may be labels; floating point takes the precision of the model. Empty data, NaN and
infinity are refused here; the error names the model's own argument.
"""

import inspect
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device to run on; for None it is CUDA if there is one, else the CPU.

    Raises ValueError for a device that this machine does not have.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: {device!r} cannot be used here ({str(error).splitlines()[0]}); try 'cpu'") from None
    return torch.device(device)


class Arguments(NamedTuple):
    """The user's data as the arguments of the model, one entry for each, in the order of its signature."""

    values: tuple[Any, ...]  # tensors on the device of the run; other objects as they came
    names: list[str]  # of the model's signature, for messages
    columns: tuple[list[str] | None, ...]  # the column names of an argument that came as a table, else None


def arguments(
    model: Callable[..., Any],
    data: tuple[Any, ...],
    dtype: torch.dtype,
    device: torch.device,
    columns: tuple[list[str] | None, ...] = (),
) -> Arguments:
    """Converts the user's data into the arguments of the model: the one conversion from data to tensors.

    data: tensors, NumPy arrays, pandas Series or DataFrames. One DataFrame alone is taken apart by column names
    (see `by_column`); beside other arguments it is a matrix. Floating point becomes `dtype`.
    columns: those of the fit, for each of its arguments; a table with the same columns is put into that order.
    Raises ValueError naming the argument: empty, not finite, not numeric, or a column that is missing.
    """
    data = _apart(model, data)
    names = argument_names(model, len(data))
    data = _in_order(names, data, columns)
    values = tuple(_tensor(name, value, dtype, device) for name, value in zip(names, data, strict=True))
    return Arguments(values, names, _columns(data))


def tensors(
    model: Callable[..., Any],
    data: tuple[Any, ...],
    dtype: torch.dtype,
    device: torch.device,
    columns: tuple[list[str] | None, ...] = (),
) -> tuple[Any, ...]:
    """The values that `arguments` returns, without their names and columns."""
    return arguments(model, data, dtype, device, columns).values


def _in_order(names: list[str], data: tuple[Any, ...], columns: tuple[list[str] | None, ...]) -> tuple[Any, ...]:
    """The data with the columns of its tables in this order. Raises ValueError for other columns."""
    for name, value, wanted in zip(names, data, columns, strict=False):
        if isinstance(value, pd.DataFrame) and wanted is not None and set(value.columns) != set(wanted):
            missing = [c for c in wanted if c not in value.columns]
            extra = [c for c in value.columns if c not in wanted]
            raise ValueError(f"{name}: wanted the columns of the fit, {wanted}; missing {missing}, not known {extra}")
    ordered = zip(data, (*columns, *[None] * len(data)), strict=False)
    return tuple(v[wanted] if isinstance(v, pd.DataFrame) and wanted is not None else v for v, wanted in ordered)


def column_names(model: Callable[..., Any], data: tuple[Any, ...]) -> tuple[list[str] | None, ...]:
    """The column names of each argument that comes as a table, None for the others."""
    return _columns(_apart(model, data))


def _columns(data: tuple[Any, ...]) -> tuple[list[str] | None, ...]:
    return tuple(list(v.columns) if isinstance(v, pd.DataFrame) else None for v in data)


def argument_names(model: Callable[..., Any], n: int) -> list[str]:
    """The names of the model's first n positional arguments, for messages and for the columns of a table."""
    positional = [p for p in _parameters(model) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in positional][:n]
    return names + [f"argument {i + 1}" for i in range(len(names), n)]


def by_column(model: Callable[..., Any], table: pd.DataFrame) -> tuple[Any, ...]:
    """The model's data arguments, each from the column of its name.

    Data arguments are those without a default or with the default None. One required argument without a column of its
    name takes all columns that no other argument takes, as a matrix of shape (rows, columns).
    Raises ValueError for an argument that no column is left for.
    """
    wanted = [p for p in _parameters(model) if p.kind is p.POSITIONAL_OR_KEYWORD and p.default in (p.empty, None)]
    names = [p.name for p in wanted]
    rest = [c for c in table.columns if c not in names]
    missing = [p.name for p in wanted if p.name not in table.columns and p.default is p.empty]
    if len(missing) > 1 or (missing and (len(wanted) == 1 or not rest)):
        raise ValueError(
            f"the table has no column {missing[0]!r}, an argument of the model: got columns {list(table.columns)}, "
            f"wanted {names}. Rename a column, or pass the arguments one by one, e.g. table[{table.columns[0]!r}]."
            if len(table.columns)
            else f"the table has no columns; wanted {names}"
        )
    values = []
    for p in wanted:
        if p.name in table.columns:
            values.append(table[p.name])
        elif p.default is p.empty:
            values.append(table[rest])
        else:
            values.append(None)
    while values and values[-1] is None:
        values.pop()
    return tuple(values)


def works_in_double(modules: list[nn.Module]) -> bool:
    """Whether the model works in double precision: as torch's default, or because a parameter of a module is double."""
    if torch.get_default_dtype() == torch.float64:
        return True
    return any(p.dtype == torch.float64 for m in modules for p in m.parameters())


def whole_number(name: str, value: Any, least: int) -> int:
    """`value` as an int. Raises ValueError, which names the argument, unless it is a whole number >= `least`."""
    if not hasattr(value, "__index__") or operator.index(value) < least:
        raise ValueError(f"{name}: got {value!r}, wanted a whole number of at least {least}")
    return operator.index(value)


def _parameters(model: Callable[..., Any]) -> list[inspect.Parameter]:
    function = model.forward if isinstance(model, nn.Module) else model
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a callable without a signature
        return []


def to_predict(values: tuple[Any, ...], data: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a prediction: new values, and for those left out at the end None or the setting of the fit.

    None stands for a tensor, an observation to predict; other objects are settings and stay as in `data`.
    """
    return values + tuple(None if isinstance(v, torch.Tensor) else v for v in data[len(values) :])


def _apart(model: Callable[..., Any], data: tuple[Any, ...]) -> tuple[Any, ...]:
    return by_column(model, data[0]) if len(data) == 1 and isinstance(data[0], pd.DataFrame) else data


def _tensor(name: str, value: Any, dtype: torch.dtype, device: torch.device) -> Any:
    if isinstance(value, (pd.DataFrame, pd.Series)):
        kinds = value.dtypes if isinstance(value, pd.DataFrame) else pd.Series([value.dtype], [value.name])
        text = [column for column, kind in kinds.items() if not pd.api.types.is_numeric_dtype(kind)]
        if text:
            raise ValueError(
                f"{name}: column {text[0]!r} holds {kinds[text[0]]}, wanted numbers; encode it first "
                f"(pandas.get_dummies) or leave it out"
            )
        whole = all(pd.api.types.is_integer_dtype(k) or pd.api.types.is_bool_dtype(k) for k in kinds)
        whole = whole and not value.isna().to_numpy().any()
        value = value.to_numpy(dtype=np.int64) if whole else value.to_numpy(dtype=np.float64, na_value=np.nan)
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, (bool, int, float)) for v in value):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise ValueError(f"{name}: got an array of {value.dtype}, wanted numbers")
        value = torch.from_numpy(np.ascontiguousarray(value).copy())
    if not isinstance(value, torch.Tensor):
        return value
    if value.numel() == 0:
        raise ValueError(f"{name} is empty: got shape {tuple(value.shape)}, wanted at least one row")
    if value.is_floating_point():
        value = value.to(dtype)
        bad = (~torch.isfinite(value)).nonzero()
        if len(bad):
            where = tuple(bad[0].tolist())
            raise ValueError(
                f"{name}: {len(bad)} of {value.numel()} values are not finite, the first is {value[where].item()} at "
                f"index {where}; drop or fill those rows first"
            )
    return value.to(device)
