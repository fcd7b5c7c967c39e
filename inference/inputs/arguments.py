"""Converts the user's data (tensors, arrays, tables) into the arguments of the model, tensors on one device.

Integers stay integers, for they may be labels; floating point takes the precision of the model. Empty data, NaN and
infinity are refused here; the error names the model's own argument.
"""

import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from .axes import labels_of_rows
from .call import argument_names, by_name, parameters, refuse_other_keys, refuse_wrong_number, required, settings_of
from .columns import LARGEST, as_numbers
from .datasets import of_its_own, unpacked
from .group_tables import group_tables, in_order_of_codes
from .labels import Labels, coded, lists_as_arrays
from .missing import not_finite, to_be_predicted
from .rounding import digits_lost
from .tables import as_table, by_column, in_order, paired_by_index

MOST = 2**62  # of steps, draws, rows
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # torch's functions do not take them


class Arguments(NamedTuple):
    """The user's data as the arguments of the model, one entry for each, in the order of its signature."""

    values: tuple[Any, ...]  # tensors on the device of the run; other objects as they came
    names: list[str]  # of the model's signature, for messages
    columns: tuple[list[str] | None, ...]  # the column names of an argument that came as a table, else None
    gaps: Mapping[str, str]  # the arguments with values that are not finite, and the message that refuses them
    codes: Labels  # of text and categories, whose codes the values hold
    notices: tuple[str, ...]  # which labels became codes; warnings of digits that single precision loses
    row_labels: tuple[list[Any] | None, ...] = ()  # the index of an argument that came with one of its own


def arguments(
    model: Callable[..., Any],
    data: tuple[Any, ...],
    dtype: torch.dtype,
    device: torch.device,
    columns: tuple[list[str] | None, ...] = (),
    codes: Labels | None = None,
    *,
    gaps: Collection[str] | None = (),
    whole: bool = False,
    fitted: tuple[Any, ...] = (),
    predicted: bool = False,
) -> Arguments:
    """Converts the user's data into the arguments of the model: the one conversion from data to tensors.

    data: tensors, NumPy arrays, lists of numbers, pandas Series or DataFrames, or a Dataset or DataLoader with them.
        One DataFrame alone, or a dictionary, is taken apart by column names (see `by_column`); beside other arguments
        a DataFrame is a matrix. Floating point becomes `dtype`.
    columns: those of the fit, for each of its arguments; a table with the same columns is put into that order.
    codes: those of the fit, which the labels of new data get; None: the labels that the data holds get codes.
    gaps: the arguments that may hold NaN or infinity; None: all of them, for the caller to check.
    whole: this begins a run: the model gets all that it wants, and tensors that the user does not share.
    fitted: the data of the fit, if these are new: their shapes tell which arguments describe groups.
    predicted: observations that are all missing (NaN) are None, for they are to be predicted.
    Raises ValueError naming the argument: empty, not finite, not numeric, missing, or a column that is missing.
    """
    data = _apart(model, data, whole)
    if whole:
        refuse_other_keys(model, data)
    refuse_wrong_number(model, data, all_of_them=whole)
    names = argument_names(model, len(data))
    settings, found, values = settings_of(model), {}, []
    labelled = coded(names, lists_as_arrays(names, in_order(names, data, columns), settings, codes), codes)
    groups = group_tables(names, labelled.values, labelled.codes, fitted)
    paired = paired_by_index(names, labelled.values, apart=groups)
    notices = [*labelled.notices]
    for i, (name, value) in enumerate(
        zip(names, in_order_of_codes(names, paired, labelled.codes, groups), strict=True)
    ):
        given = _tensor(name, as_numbers(name, value, name in settings))
        if isinstance(given, torch.Tensor):
            given = _as_fitted(given, fitted[i]) if i < len(fitted) else given
            narrowed = whole and (dtype, given.dtype) == (torch.float32, torch.float64)
            if narrowed and (warning := digits_lost(name, given)):
                notices.append(warning)
            if message := not_finite(name, given):
                found[name] = message
            given = _placed(given, dtype, device, copy=whole and isinstance(value, torch.Tensor))
        else:
            given = of_its_own(given, tensors=whole)
        values.append(given)
    if predicted:
        for i in to_be_predicted(model, tuple(values)):
            values[i], _ = None, found.pop(names[i], None)
    refused = [message for name, message in found.items() if gaps is not None and name not in gaps]
    if refused:
        raise ValueError(refused[0])
    rows = zip(names, paired, strict=True)
    row_labels = tuple(None if name in groups else labels_of_rows(value) for name, value in rows)
    return Arguments(tuple(values), names, _columns(data), found, labelled.codes, tuple(notices), row_labels)


def tensors(
    model: Callable[..., Any],
    data: tuple[Any, ...],
    dtype: torch.dtype,
    device: torch.device,
    columns: tuple[list[str] | None, ...] = (),
    *,
    whole: bool = False,
) -> tuple[Any, ...]:
    """The values that `arguments` returns, without their names and columns."""
    return arguments(model, data, dtype, device, columns, whole=whole).values


def column_names(model: Callable[..., Any], data: tuple[Any, ...]) -> tuple[list[str] | None, ...]:
    """The column names of each argument that comes as a table, None for the others."""
    return _columns(_apart(model, data))


def _columns(data: tuple[Any, ...]) -> tuple[list[str] | None, ...]:
    return tuple(list(v.columns) if isinstance(v, pd.DataFrame) else None for v in data)


def works_in_double(modules: list[nn.Module]) -> bool:
    """Whether the model works in double precision: as torch's default, or because a parameter of a module is double."""
    if torch.get_default_dtype() == torch.float64:
        return True
    return any(p.dtype == torch.float64 for m in modules for p in m.parameters())


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as an int. Raises ValueError, which names the argument, unless it is a whole number in this range.

    most: None for any number that a tensor can be as long as.
    """
    try:
        number = operator.index(value) if not isinstance(value, bool) else least - 1
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name}: got {shown(value)}, wanted a whole number of at least {least}")
    most = MOST if most is None else most
    if number > most:
        raise ValueError(f"{name}: got {number}, wanted a whole number of at most {most}")
    return number


def yes_or_no(name: str, value: Any) -> bool:
    """`value` as a bool. Raises ValueError, which names the argument, unless it is True, False, 1 or 0."""
    if isinstance(value, bool | np.bool_) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise ValueError(f"{name}: got {shown(value)}, wanted True or False")


def number_of_draws(call: str, n: Any, least: int = 1) -> int:
    """The number n of draws as an int. Raises ValueError for any other thing in its place: data, the name of a site.

    call: the name of the method, for messages.
    """
    if isinstance(n, str):
        raise ValueError(
            f"n: got {n!r}, wanted the number of draws; take a site from the result: sample()[{n!r}], "
            f"summary().loc[{n!r}]"
        )
    if isinstance(n, (torch.Tensor, np.ndarray, pd.Series, pd.DataFrame, list, tuple, dict)):
        raise ValueError(f"n: got {shown(n)}, wanted the number of draws: {call}(1000)")
    fewest = "one draw" if least == 1 else f"{least} draws"
    if isinstance(n, (bool, np.bool_)) or not hasattr(n, "__index__"):
        raise ValueError(f"n: got {shown(n)}, wanted a whole number, at least {fewest}")
    number = operator.index(n)
    if not least <= number <= MOST:
        raise ValueError(f"n: got {number}, wanted at {f'least {fewest}' if number < least else f'most {MOST}'}")
    return number


def shown(value: Any) -> str:
    """A value in a message: as Python writes it, arrays by their type and shape."""
    if hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, np.generic):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def to_predict(values: tuple[Any, ...], data: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a prediction: new values, and for those left out at the end None or the setting of the fit.

    None stands for a tensor, an observation to predict; other objects are settings and stay as in `data`.
    """
    return values + tuple(None if isinstance(v, torch.Tensor) else v for v in data[len(values) :])


def gaps_of(model: Callable[..., Any], values: tuple[Any, ...]) -> frozenset[str]:
    """The names of the model's arguments that hold NaN or infinity, as these tensors do."""
    pairs = zip(argument_names(model, len(values)), values, strict=True)
    return frozenset(name for name, v in pairs if isinstance(v, torch.Tensor) and not_finite(name, v))


def _apart(model: Callable[..., Any], data: tuple[Any, ...], whole: bool = True) -> tuple[Any, ...]:
    """The data as one entry for each argument: a table alone is taken apart by its columns, a Dataset by its parts.

    whole: whether a table has all that the model wants; the table of a prediction may lack what is predicted.
    """
    data = tuple(as_table(value) for value in unpacked(data))
    if len(data) != 1:
        return data
    (table,) = data
    if isinstance(table, pd.DataFrame):
        return by_column(model, table, whole)
    if isinstance(table, dict) and (wanted := required(model)) and wanted <= table.keys():
        known = {p.name for p in parameters(model)}
        return by_name(model, (), {name: value for name, value in table.items() if name in known})
    return data


def _tensor(name: str, value: Any) -> Any:
    """The data of an argument as a tensor of the precision that it has; other objects as they came."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if not isinstance(value, torch.Tensor):
        return value
    if value.numel() == 0:
        raise ValueError(f"{name} is empty: got shape {tuple(value.shape)}, wanted at least one row")
    if value.dtype in UNSIGNED:
        if value.dtype == torch.uint64 and (value.view(torch.int64) < 0).any():
            raise ValueError(f"{name}: got {value.dtype} above {LARGEST}, wanted integers that int64 holds")
        value = value.to(torch.int64)
    return value.detach() if value.requires_grad else value


def _as_fitted(value: torch.Tensor, fitted: Any) -> torch.Tensor:
    """Booleans as whole numbers where the fit had these, and 0 and 1 as booleans where it had those."""
    kinds = (value.dtype, fitted.dtype if isinstance(fitted, torch.Tensor) else None)
    if kinds == (torch.bool, torch.int64) or (
        kinds == (torch.int64, torch.bool) and ((value == 0) | (value == 1)).all()
    ):
        return value.to(fitted.dtype)
    return value


def _placed(value: torch.Tensor, dtype: torch.dtype, device: torch.device, copy: bool) -> torch.Tensor:
    if value.is_complex():
        dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
    elif not value.is_floating_point():
        dtype = value.dtype
    return value.to(device, dtype, copy=copy)
