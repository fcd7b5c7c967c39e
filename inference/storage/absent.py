"""Stand-ins for data that a file does not have.

A fit that is loaded without its data has stand-ins of their shapes in their place, so that model and guide run: sites,
plates and shapes are those of the fit. When a fit is saved, its answers are compared with those at the stand-ins: what
depends on the values of the data is refused afterwards.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd
import torch

from ..inputs.arguments import arguments, gaps_of, yes_or_no
from ..inputs.call import argument_names, refuse_wrong_number
from .outline import ObjectOf, TensorOf, has, kept, outline, refuse_different

RATIO = 0.6180339887498949  # stand-ins are multiples of it modulo 1: all different, and inside of most supports
DRAWS = 2  # of an answer that is asked for with the data and with stand-ins
FEW = 32  # rows of new data at which a file is asked what it can do
Data = tuple[Any, ...]


class Absent(tuple[Any, ...]):
    """Stand-ins for the data of a fit that was loaded without them.

    free: what can be asked of the fit all the same. file: what the file says of the data, for another file. whole:
    whether all tensors among the data are stand-ins. streamed: rows in all, where the run read them by windows and
    these are some of them; 0 for stand-ins.
    """

    free: frozenset[str] = frozenset()
    whole: bool = True
    streamed: int = 0
    file: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self) -> str:
        if self.streamed:
            return f"({self.streamed:,} rows, read by windows; {len(self)} arguments)"
        return "(the data are not in the file)"


def stand_in(name: str, wanted: Any, device: torch.device, other: float = 0.0) -> Any:
    """An argument of this outline: other values in the tensors, the same settings. other: changes the values.

    Whole numbers lie between the smallest and the largest of the data, which are among them, as codes of groups do.

    Raises ValueError for a network or an object, which has to be passed.
    """
    if isinstance(wanted, ObjectOf):
        what = f"the network ({wanted.name})" if wanted.network else f"the {wanted.name}"
        raise ValueError(
            f"{name}: no file holds {what} of the fit; pass one of the same kind at its place among the data: "
            f"credo.load_fit(path, model, guide, *data)"
        )
    if isinstance(wanted, TensorOf):
        dtype = getattr(torch, wanted.dtype)
        made = torch.zeros(wanted.shape, dtype=dtype)
        if dtype.is_floating_point and made.numel():
            numbers = torch.arange(made.numel(), dtype=torch.float64) * RATIO + 0.5 + other
            made = numbers.remainder(1.0).reshape(wanted.shape).to(dtype)
        elif wanted.levels:
            made = _whole_numbers(wanted, reverse=other != 0.0).to(dtype)
        return made.numpy() if wanted.array else made.to(device)
    if type(wanted) in (list, tuple):
        return type(wanted)(stand_in(f"{name}[{i}]", part, device, other) for i, part in enumerate(wanted))
    if type(wanted) is dict:
        return {key: stand_in(f"{name}[{key!r}]", part, device, other) for key, part in wanted.items()}
    return wanted


def _whole_numbers(wanted: TensorOf, reverse: bool) -> torch.Tensor:
    """All numbers from the smallest to the largest in turn, so that there are as many groups as in the data."""
    columns = []
    rows = math.prod(wanted.shape) // len(wanted.levels)
    for low, high in wanted.levels:
        if wanted.dtype == "bool":
            column = torch.arange(rows) >= low
        else:
            column = low + torch.arange(rows) % min(high - low + 1, rows)
            column[-1] = high
        columns.append(column.flip(0) if reverse else column)
    return torch.stack(columns, -1).reshape(wanted.shape)


def about_data(
    model: Callable[..., Any],
    data: Data,
    dtype: torch.dtype,
    device: torch.device,
    identity: Callable[[Data], dict[str, Any]],
    asked: Mapping[str, Callable[[Data, Data], Any]],
    with_data: bool,
) -> dict[str, Any]:
    """What a file says of the data of a fit: outlines, the data themselves if asked for, and what is `free` of them.

    model: whose arguments the data are, as tensors of `dtype` on `device`.
    identity: of the pair on these data (`pair/identity.py`); the file has it of the data, and of stand-ins for them.
    asked: {what: its answer with these data of the fit and these new data}: a table, or a dictionary.
    """
    outlines = tuple(outline(value) for value in data)
    values = tuple(kept(value) for value in data) if with_data else None
    names = argument_names(model, len(data))
    bare, new = (_stand_ins(data, outlines, names, device, other) for other in (0.0, 0.3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        free = frozenset() if with_data else free_of(asked, data, bare, new)
        pair, without = identity(data), {} if with_data else identity(bare)
    said = {"outlines": outlines, "values": values, "free": free, "pair": pair, "pair without data": without}
    return said | {"dtype": dtype, "gaps": gaps_of(model, data)}


def data_of(
    file: Mapping[str, Any],
    model: Callable[..., Any],
    given: Data,
    columns: tuple[list[str] | None, ...],
    codes: Mapping[Any, list[Any]],
    device: torch.device,
) -> Data:
    """The data of a fit: those given, or those of the file; stand-ins, as `Absent`, where neither has them.

    file: what `about_data` said. Raises ValueError for data that are not those of the fit, and for a network or an
    object that has to be given.
    """
    outlines, stored = file["outlines"], file["values"]
    known: Data = ()
    if given:
        known = arguments(model, given, file["dtype"], device, columns, codes, gaps=file["gaps"]).values
    if len(known) > len(outlines):
        raise ValueError(f"got {len(known)} arguments of data, and the fit has {len(outlines)}")
    try:
        refuse_wrong_number(model, outlines, all_of_them=False)
    except ValueError as error:
        raise ValueError(f"this is not the model of the fit: {error}") from error
    values, missing = [], []
    for i, (name, one) in enumerate(zip(argument_names(model, len(outlines)), outlines, strict=True)):
        if i < len(known) and (known[i] is not None or one is None):
            if (
                file.get("streamed")
                and isinstance(one, TensorOf)
                and getattr(known[i], "shape", one.shape) != one.shape
            ):
                raise ValueError(
                    f"{name}: the run read its {file['streamed']:,} rows by windows and keeps few of them; leave them "
                    f"out, credo.load_fit(path, model, guide)"
                )
            refuse_different(name, known[i], one)
            values.append(known[i])
        elif stored is not None and not has(one, ObjectOf):
            values.append(stored[i])
        else:
            missing += [has(one, TensorOf)]
            values.append(stand_in(name, one, device))
    if not any(missing):
        return tuple(values)
    absent = Absent(values)
    absent.free, absent.file, absent.streamed = file["free"], file, file.get("streamed", 0)
    absent.whole = sum(missing) == sum(has(one, TensorOf) for one in outlines)
    return absent


def _stand_ins(data: Data, outlines: Data, names: Sequence[str], device: torch.device, other: float) -> Data:
    made = []
    for name, value, one in zip(names, data, outlines, strict=True):
        try:
            made.append(stand_in(name, one, device, other))
        except ValueError:  # a network
            made.append(value)
    return tuple(made)


def free_of(asked: Mapping[str, Callable[[Data, Data], Any]], data: Data, bare: Data, new: Data) -> frozenset[str]:
    """What has the same answer with stand-ins for the data of the fit. new: new data, of which few rows are asked."""
    few = _few_rows(new)
    return frozenset(
        what
        for what, ask in asked.items()
        if _same(ask, data, bare, few) or (few is not new and _same(ask, data, bare, new))
    )


def _few_rows(data: Data) -> Data:
    """The first rows of the data, where most arguments have as many and more than FEW: programs may be slow."""
    lengths = [len(value) for value in data if isinstance(value, torch.Tensor) and value.ndim]
    rows = max(lengths, key=lengths.count, default=0)
    if rows <= FEW:
        return data
    return tuple(v[:FEW] if isinstance(v, torch.Tensor) and v.ndim and len(v) == rows else v for v in data)


def _same(ask: Callable[[Data, Data], Any], data: Data, bare: Data, new: Data) -> bool:
    """Whether an answer is the same with these data of the fit."""
    try:
        one, two = ask(data, new), ask(bare, new)
    except Exception:  # of the user's program, with data of no meaning
        return False
    if isinstance(one, pd.DataFrame):
        return one.equals(two)
    return bool(one) and one.keys() == two.keys() and all(_equal(value, two[key]) for key, value in one.items())


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return torch.equal(one.nan_to_num(), two.nan_to_num())
    return bool(one == two)


def refuse_without_data(data: tuple[Any, ...], what: str) -> None:
    """Raises ValueError for what depends on the data of a fit that was loaded without them.

    what: "guide" (draws of its latents), "sample" (of all sites), "summary", "predict" (at new data) or "rows", which
    are those of the fit.
    """
    if isinstance(data, Absent) and what not in data.free:
        words = {"guide": "draws of the guide depend", "sample": "draws of its sites depend"}
        words |= {"summary": "its summary depends", "predict": "predictions at new data depend"}
        words |= {"rows": "what was asked for depends"}
        if data.streamed:
            raise ValueError(
                f"the run read the {data.streamed:,} rows of this fit by windows and keeps few of them, and "
                f"{words[what]} on them; pass rows, as many as memory holds: fit.predict(n, *rows), or "
                f"fit.latents(n, *rows) with guide='amortised'; or all of them again: credo.check(fit, *data), "
                f"fit.corrected(n, data=data)"
            )
        raise ValueError(
            f"this fit was loaded without its data, and {words[what]} on them; pass them, credo.load_fit(path, model, "
            f"guide, *data), or save the fit with them, fit.save(path, with_data=True)"
        )


def refuse_to_save(data: tuple[Any, ...], with_data: bool) -> None:
    """Raises ValueError where a file would not get the data that it is asked to hold."""
    if yes_or_no("with_data", with_data) and isinstance(data, Absent) and data.streamed:
        raise ValueError(
            f"with_data: the run read the {data.streamed:,} rows of this fit by windows, from where they are; leave it "
            f"out"
        )
    if with_data and isinstance(data, Absent):
        raise ValueError(
            "with_data: this fit was loaded without its data, so that no file can get them; load it with them, "
            "credo.load_fit(path, model, guide, *data), and save that"
        )
