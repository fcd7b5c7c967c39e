"""The call of a model: the names of its arguments, data given by name, and arguments that are missing."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn


def parameters(model: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of the model's signature; none for a callable without one."""
    signature = signature_of_call(model)
    return list(signature.parameters.values()) if signature is not None else []


def argument_names(model: Callable[..., Any], n: int) -> list[str]:
    """The names of the model's first n positional arguments, for messages and for the columns of a table."""
    names = [p.name for p in positional_parameters(model)][:n]
    return names + [f"argument {i + 1}" for i in range(len(names), n)]


def settings_of(model: Callable[..., Any]) -> frozenset[str]:
    """The names of the model's settings: arguments with a default other than None."""
    return frozenset(p.name for p in parameters(model) if p.default is not p.empty and p.default is not None)


def required(model: Callable[..., Any]) -> frozenset[str]:
    """The names of the positional arguments without a default."""
    return frozenset(p.name for p in positional_parameters(model) if p.default is p.empty)


def by_name(
    model: Callable[..., Any], data: tuple[Any, ...], named: Mapping[str, Any], options: Sequence[str] = ()
) -> tuple[Any, ...]:
    """The data with the arguments that were given by name at their place in the model's signature.

    options: the keywords of the call itself, for "did you mean". Raises TypeError for a name that the model does not
    have, has already got, or takes by keyword only.
    """
    if not named:
        return data
    positional = positional_parameters(model)
    names = [p.name for p in positional]
    for name in named:
        if name not in names:
            only = name in {p.name for p in parameters(model) if p.kind is p.KEYWORD_ONLY}
            if only:
                raise TypeError(
                    f"{name}: the model takes it by keyword only; bind it first, functools.partial(model, {name}=...)"
                )
            close = [n for n in names if n.lower() == name.lower()]
            close = close or difflib.get_close_matches(name, [*options, *names], n=1)
            hint = f"; did you mean {close[0]!r}?" if close and name not in options else ""
            raise TypeError(
                f"got an unexpected keyword argument {name!r}: no option, nor an argument of the model{hint}"
            )
        if names.index(name) < len(data):
            raise TypeError(f"{name}: got two values for this argument of the model, one by position and one by name")
    last = max(names.index(name) for name in named)
    values = list(data)
    for p in positional[len(data) : last + 1]:
        if p.name not in named and p.default is p.empty:
            place = f"before {', '.join(named)}"
            how = f"{p.name}= is also an option of this call, so pass it by position, {place}"
            how = how if p.name in options else f"pass it {place}"
            raise TypeError(f"{p.name}: this argument of the model is missing; {how}")
        values.append(named.get(p.name, p.default))
    return tuple(values)


def refuse_wrong_number(model: Callable[..., Any], data: tuple[Any, ...], *, all_of_them: bool = True) -> None:
    """Raises ValueError for too few or too many arguments, with the names of those that the model wants.

    all_of_them: whether the required ones must be there; a prediction leaves out what it predicts.
    """
    if signature_of_call(model) is None or any(p.kind is p.VAR_POSITIONAL for p in parameters(model)):
        return
    positional = positional_parameters(model)
    names = [p.name for p in positional]
    if len(data) > len(positional):
        raise ValueError(
            f"got {len(data)} arguments of data, and the model takes {len(positional)}"
            + (f": {', '.join(names)}" if names else "; leave them out")
        )
    missing = [p.name for p in positional[len(data) :] if p.default is p.empty and all_of_them]
    if missing and not data:
        raise ValueError(f"no data: the model wants {', '.join(missing)}; pass them after the guide")
    if missing:
        got = f"got {', '.join(names[: len(data)])}{_no_file(data)}"
        raise ValueError(f"{missing[0]}: this argument of the model is missing; {got}")


def _no_file(data: tuple[Any, ...]) -> str:
    """What a message adds about one value alone that may be meant as a file with all arguments."""
    if len(data) != 1 or not isinstance(data[0], str | Path):
        return ""
    if isinstance(data[0], str):
        return f", the text {data[0]!r}; the table in a file is given as pathlib.Path('rows.csv')"
    return f", the path {str(data[0])!r}; tables are read from files whose names end with .csv, .parquet or .pq"


def refuse_other_keys(model: Callable[..., Any], data: tuple[Any, ...]) -> None:
    """Raises ValueError for a dictionary alone, in the place of several arguments, that lacks one of their names."""
    wanted = [p.name for p in positional_parameters(model) if p.default is p.empty]
    if len(data) == 1 < len(wanted) and isinstance(data[0], dict):
        missing = [name for name in wanted if name not in data[0]]
        raise ValueError(
            f"{missing[0]}: the dictionary has no entry of this name, an argument of the model: got the keys "
            f"{list(data[0])}, wanted {wanted}"
        )


def positional_parameters(model: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters that can be given by position."""
    return [p for p in parameters(model) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def signature_of_call(model: Callable[..., Any]) -> inspect.Signature | None:
    """The signature of a program; None if it has none that Python can read."""
    try:
        return inspect.signature(model.forward if isinstance(model, nn.Module) else model)
    except (TypeError, ValueError):  # a callable without a signature
        return None
