"""Names the argument that a model cannot use, when the model fails on its data: the error names an operation at best.

The argument is one that the failing expression of the program reads. What a model can use is for the model to say:
None, text and functions are legal arguments, so nothing is refused before the program has failed.
"""

import dis
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Number
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..inputs.arguments import Arguments, shown
from ..inputs.places import Place, is_the_users_file

ROWS = "wanted data with rows: a tensor, an array, a column, or a list of numbers"
_INDEX = re.compile(r"out of bounds|out of range|smaller than num_classes|must be non-negative")
_WANTS_CODES = re.compile(r"used as indices must be|'indices' .*Long|dtype int64 for index|applicable to index tensor")
_MASKS = re.compile(r"shape of the mask|int32 or int64 for index|'indices' .*Long")
_LIKE_A_TABLE = re.compile(r"'Tensor' object has no attribute|got str\)|data type 'str'|'builtin_function_or_method'")
_SIZE = re.compile(r"index -?\d+ is out of bounds for dimension \d+ with size (\d+)")
_NO_ROWS = re.compile(
    r"0-d|too many indices|tuple index out of range|[Dd]imension (specified as )?-?\d+ .*(out of range|no dimensions)"
)
_WANTS_ROWS = re.compile(r"len\(\)|subscriptable|not iterable|has no attribute 'shape'|has no attribute 'size'|0-d")
_SHAPES = re.compile(r"size of tensor|tensor size|shapes? cannot|mat1 and mat2|expanded size|hape mismatch|broadcast")
_TYPES = re.compile(r"(dtype|scalar type|not implemented for).*\b(Long|Int|Bool|long|int|bool)\b")


class Misused(NamedTuple):
    """Why a program cannot use an argument."""

    got: str  # after the name of the argument
    remedy: str


@contextmanager
def naming_misused(given: Arguments) -> Iterator[None]:
    """Errors inside that an argument explains become ValueErrors that name it, what came, and the remedy."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and _last_of_user(cause) is None:
            cause = cause.__cause__
        cause = error if cause is None else cause
        said = str(error)
        if re.search(r"dtype.*[Dd]ouble", said) and not _TYPES.search(said):  # the run begins anew in double
            raise
        if (reason := _reason(cause, given, raw=cause is error)) is None:
            raise
        raise ValueError(reason) from error


def _reason(error: BaseException, given: Arguments, raw: bool) -> str | None:
    """What is wrong with which argument; None if no argument explains the error.

    raw: whether the error is the one that the program raised; for another one credo has its own words already, which
    only sparse and complex data overrule.
    """
    words = str(error).strip().split("\n")[0][:200]
    where = _last_of_user(error)
    read = {} if where is None else _read_by(where, given)
    if re.search("omplex|parse", words):  # perhaps of what has become of an argument
        read |= dict(zip(given.names, given.values, strict=True))
    found: dict[str, Misused] = {}
    for name, value in read.items():
        explain: Callable[..., Misused | None] = _of_tensor if isinstance(value, torch.Tensor) else _of_object
        special = isinstance(value, torch.Tensor) and (value.is_complex() or value.layout is not torch.strided)
        if (raw or special) and (why := explain(name, value, error, words)):
            found[name] = why
    if not found:
        return None
    name = next(iter(found))
    if (dim := re.search(r"for dimension (\d+)", words)) and len(found) > 1:  # a[g, h]: h is the index of dim 1
        name = dict(enumerate(name for name, value in read.items() if _is_whole(value))).get(int(dim[1]), name)
    place = Place(where.tb_frame.f_code.co_filename, where.tb_lineno, 0) if where is not None else ""
    said = f"{words or repr(error)}; {place}" if place else words
    return f"{name}{found[name].got}, which the program cannot use here ({said}); {found[name].remedy}"


def _of_object(name: str, value: Any, error: BaseException, words: str) -> Misused | None:
    """What came, and the remedy, for an argument that is no tensor; None if it does not explain the error."""
    kind = type(value).__name__
    if _SHAPES.search(words) and not isinstance(value, (list, tuple)):  # of the tensors beside it
        return None
    if isinstance(error, KeyError):
        if not isinstance(value, dict) or not error.args or error.args[0] in value:
            return None
        return Misused(f": got the keys {list(value)[:10]}", f"wanted {error.args[0]!r} among them")
    if isinstance(value, nn.Module):
        return Misused(f": got the network {kind}", ROWS) if "operand" in words or "len()" in words else None
    if value is None:
        remedy = f"pass its values, or let the program take None: obs={name} does, but the number of rows must then "
        return Misused(": got None", f"{remedy}come from another argument")
    if isinstance(value, Number) and "as an integer" in words:
        return Misused(f": got the number {value!r}", f"pass a whole number, int({name})")
    if isinstance(value, Number):  # beside a number, an error is about the number where it wants rows
        return Misused(f": got the number {value!r}", ROWS) if _WANTS_ROWS.search(words) else None
    if hasattr(value, "__len__") and not isinstance(value, type) and len(value) == 0:
        return Misused(f" is empty: got {value!r}", "wanted at least one row")
    if isinstance(value, (str, bytes)):
        return Misused(f": got the text {shown(value)}", ROWS)
    if isinstance(value, range):  # a model may count by it, so no tensor is made of it before
        return Misused(f": got {value!r}", f"pass a list of its numbers, list({name})")
    if isinstance(value, (set, frozenset)):
        return Misused(f": got a {kind}", f"a {kind} has no order: pass a list of its values in theirs")
    if isinstance(value, dict):
        return Misused(f": got the keys {list(value)[:10]}", "pass what they hold as arguments of the model")
    if hasattr(value, "_fields"):
        return Misused(f": got a {kind} with the fields {list(value._fields)}", "read what it has, or pass its fields")
    if isinstance(value, (list, tuple)):
        arrays = [v for v in value if isinstance(v, (torch.Tensor, np.ndarray)) and v.ndim > 0]
        lengths = {len(v) for v in [*arrays, *(v for v in value if isinstance(v, (list, tuple)))]}
        if len(lengths) > 1:
            remedy = "fill them to one length and pass the mask of what is filled as an argument of its own, or pass "
            return Misused(
                f": got a {kind} of {len(value)} rows of {min(lengths)} to {max(lengths)} numbers",
                f"{remedy}all numbers in one row, and the row that each belongs to",
            )
        parts = ", ".join(sorted({type(v).__name__ for v in value})[:3])
        as_array = f"pass an array, numpy.array({name}): labels in it become codes"
        remedies = {"Tensor": f"pass one tensor, torch.stack({name})", "str": as_array}
        return Misused(f": got a {kind} of {parts}", remedies.get(parts, ROWS))
    label = getattr(value, "__name__", None) or kind
    function = isinstance(value, type) or inspect.isroutine(value)
    of = "the class" if isinstance(value, type) else "the function" if function else "an object of the type"
    return Misused(f": got {of} {label}", ROWS + ("; call it first" if function else ""))


def _of_tensor(name: str, value: torch.Tensor, error: BaseException, words: str) -> Misused | None:
    """The same for an argument that is a tensor."""
    if value.layout is not torch.strided:
        return Misused(f": got a sparse tensor, {value.layout}", f"pass {name}.to_dense()")
    if value.is_complex():
        remedy = f"pass {name}.real, or its two parts as two arguments of the model, {name}.real and {name}.imag"
        return Misused(f": got complex numbers, {value.dtype}", remedy)
    if _LIKE_A_TABLE.search(words) or _is_key_error(error):
        remedy = f"use torch's functions and the numbers of columns, {name}[:, 0], or one argument for each column"
        return Misused(f": is a tensor here, as all data are in the program, of shape {tuple(value.shape)}", remedy)
    if value.dim() == 0 and _NO_ROWS.search(words):
        return Misused(": got one number, a tensor of shape ()", f"{ROWS}, [{value.item():g}] say")
    if value.numel() != 1 and "single element" in words:
        return Misused(f": got {value.numel()} numbers where one is wanted", "pass one whole number")
    if _WANTS_CODES.search(words) and value.is_floating_point():
        remedy = f"pass whole numbers, {name}.long() or {name}.astype(int)"
        return Misused(f": got {_plain(value)} as an index", remedy)
    if value.dtype == torch.bool and _MASKS.search(words):
        remedy = f"they select rows: pass {name}.long(), {name}.astype(int), or pandas.Categorical({name}) with names"
        return Misused(": got True and False as an index", remedy)
    if not value.is_floating_point():
        if _INDEX.search(words) and _is_whole(value):
            return _of_index(name, value, words)
        if _TYPES.search(words) or "a bool tensor" in words:
            return Misused(f": got {_plain(value)}", f"pass floating point, {name}.float() or {name}.astype(float)")
    return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not value.is_floating_point() and value.dtype != torch.bool


def _of_index(name: str, value: torch.Tensor, words: str) -> Misused | None:
    """The same for whole numbers, if they are an index that is too small or too large."""
    least, most = int(value.min()), int(value.max())
    found = _SIZE.search(words)
    size = int(found[1]) if found else None
    if size is not None and -size <= least and most < size:
        return None  # another index of the expression
    there = f" into 0 to {size - 1}" if size is not None else ""
    if least == 1 and size in (None, most):
        remedy = f"an index counts from 0: pass {name} - 1"
    elif least < 0:
        remedy = "an index counts from 0; -1 is what pandas writes for a missing label: leave out its rows"
    else:
        remedy = (
            f"make room for {most + 1} entries, or number those that occur from 0, pandas.factorize({name})[0], or "
            f"{name}.unique(return_inverse=True)[1]"
        )
    return Misused(f": got whole numbers from {least} to {most} as an index{there}", remedy)


def _plain(value: torch.Tensor) -> str:
    dtype = str(value.dtype).removeprefix("torch.")
    return {"bool": "True and False", "int64": "whole numbers"}.get(dtype, f"{dtype} numbers")


def _is_key_error(error: BaseException) -> bool:
    """Whether a tensor was asked for the entry of a name, x["dose"], which torch takes for an index of letters."""
    where = _last_of_user(error)
    if where is None or "too many indices" not in str(error):
        return False
    before = [i for i in dis.get_instructions(where.tb_frame.f_code) if i.offset < where.tb_lasti]
    return any(isinstance(i.argval, str) and i.opname == "LOAD_CONST" for i in before[-1:])


def _last_of_user(error: BaseException) -> TracebackType | None:
    """The innermost line of the user's program in the traceback of an error; None if there is none."""
    where, found = error.__traceback__, None
    while where is not None:
        if is_the_users_file(where.tb_frame.f_code.co_filename):
            found = where
        where = where.tb_next
    return found


def _read_by(where: TracebackType, given: Arguments) -> dict[str, Any]:
    """{argument: its value} of the arguments that the failing expression reads, in its order.

    A variable that holds the argument itself is it, whatever its name; one of the same name may hold what has become
    of it. A line that raises an error of its own says itself what is wrong.
    """
    code, at = where.tb_frame.f_code, where.tb_lasti
    instructions = list(dis.get_instructions(code))
    failing = next((i for i in reversed(instructions) if i.offset <= at), None)  # caches may follow an instruction
    if failing is None or failing.positions is None or failing.opname in ("RAISE_VARARGS", "RERAISE"):
        return {}
    first, last = _ends(failing)
    found: dict[str, Any] = {}
    for i in instructions:
        if i.positions is None or not i.opname.startswith("LOAD_") or not isinstance(i.argval, str):
            continue
        start, end = _ends(i)
        if not first <= start <= end <= last or i.argval not in where.tb_frame.f_locals:
            continue
        value = where.tb_frame.f_locals[i.argval]
        owners = [name for name, own in zip(given.names, given.values, strict=True) if own is value]
        if i.argval in given.names:
            owners = [i.argval]
        if owners:
            found.setdefault(owners[0], value)
    return found


def _ends(instruction: dis.Instruction) -> tuple[tuple[int, int], tuple[int, int]]:
    p = instruction.positions
    if p is None:
        return (0, 0), (0, 0)
    return (p.lineno or 0, p.col_offset or 0), (p.end_lineno or 0, p.end_col_offset or 0)
