"""Whether all processes of a job do the same: one code, one set of options, the same data; and one start.

Each process computes gradients of its own share of each batch, which only sum to that of the whole if all have the
same pair on the same data. What each has is described in words and digests, which all processes compare; so all of
them raise the same error, and none waits for another.
"""

import functools
import hashlib
import inspect
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..inputs.call import argument_names
from ..runtime.plain_state import plain_state, put_state
from ..runtime.state import State, entered, own_modules
from ..runtime.workers import Workers, agreed, gathered
from .batches import Rows
from .identity import FEW, Identity, Other, data_identity, differences, pair_identity, settings_identity, spread
from .pair import Pair

ENGINE = Path(__file__).parents[1]
DATA = (
    "Every process gets all rows, in the same order, and takes its share of each batch itself: pass the whole data on "
    "all ranks, not a shard of them; draw or shuffle them from the same seed"
)
CODE = "Start the same program, with the same versions, on all hosts"
OPTIONS = "Call with the same options on all ranks"
FEW_ROWS = 64  # on which the densities of a pair are compared
OF_RANK = ("model", "device", "workers", "progress")  # what is no option, or a process may have its own of
LARGE = 2**26  # bytes of a mapped file, of which some rows are compared
FIRST = Other(was="rank 0 has", had="rank 0 has", lacks="not on rank 0", alone="only on rank 0")


def refuse_others(
    workers: Workers | None, programs: tuple[Any, Any], options: Mapping[str, Any], data: Sequence[Any]
) -> None:
    """Raises ValueError on all ranks where one of them has other code, options or data, naming rank and difference.

    programs: model and guide. options: of the call; those of OF_RANK may differ.
    """
    if workers is not None:
        asked = {name: value for name, value in options.items() if name not in OF_RANK}
        found = data_identity(list(map(_some, data)), argument_names(programs[0], len(data)))
        mine = code_identity(*programs), settings_identity(asked), found
        of_ranks = list(zip(*gathered(workers, mine), strict=True))
        for what, every, remedy in zip(("code", "options", "data"), of_ranks, (CODE, OPTIONS, DATA), strict=True):
            _refuse(f"other {what}", every, remedy)


def refuse_other_sites(workers: Workers | None, pair: Pair, state: State, rows: Rows | None) -> None:
    """Raises ValueError on all ranks where the pair has other densities on one of them, at the same parameters.

    pair: on all data. state: of the run. rows: how the data is cut into batches; None: not at all.
    """
    if workers is not None:
        pair, rows = (pair, None) if rows is None else _on_few_rows(workers, pair, rows)
        with entered(state):
            mine = pair_identity(pair, rows)
        _refuse("another pair", gathered(workers, mine), f"{CODE}; what the program reads or draws must be the same")


def _on_few_rows(workers: Workers, pair: Pair, rows: Rows) -> tuple[Pair, Rows]:
    """The pair with few rows in a batch; those of the first process, where each reads rows of its own by windows."""
    few = min(rows.n, FEW_ROWS)
    if not rows.total:
        return pair, rows._replace(size=few)
    of_first = agreed(workers, lambda: {i: pair.data[i][:few].cpu() for i in rows.arguments})
    data = tuple(of_first[i].to(v.device) if i in of_first else v for i, v in enumerate(pair.data))
    return pair._replace(data=data), rows._replace(n=few, size=few)


def start_from_first(workers: Workers | None, state: State) -> None:
    """Gives all ranks the parameters and networks of rank 0: a network made without a seed has others on each."""
    if workers is None:
        return
    with entered(state):
        modules = own_modules(list(state.modules))
        mine = plain_state(modules)
        first = agreed(workers, lambda: {**mine, "generators": None})
        put_state({**first, "generators": mine["generators"]}, modules)


def code_identity(model: Any, guide: Any) -> Identity:
    """What computes: the versions of Python and torch, this engine, and the files that hold model and guide."""
    found: Identity = {
        "Python": [platform.python_version(), None],
        "torch": [torch.__version__.split("+")[0], None],
        "credo": ["its engine", _digest(sorted(ENGINE.rglob("*.py")), ENGINE)],
    }
    for name, program in (("model", model), ("guide", guide)):
        path = _file(program)
        words = f"{_name(program)}{'' if path is None else f' of {path.name}'}"
        found[name] = [words, None if path is None else _digest([path], path.parent)]
    return found


def _some(value: Any) -> Any:
    """A value, of a large file that is mapped into memory only some rows, which are read."""
    return spread(value) if isinstance(value, np.memmap) and value.nbytes >= LARGE else value


def _refuse(what: str, every: Sequence[Identity], remedy: str) -> None:
    of_rank = [(rank, differences(other, every[0], FIRST)) for rank, other in enumerate(every)]
    if found := [f"rank {rank}: {each}" for rank, several in of_rank for each in several]:
        more = f" and {len(found) - FEW} more" if len(found) > FEW else ""
        raise ValueError(f"the ranks of this job have {what}. {'; '.join(found[:FEW])}{more}. {remedy}")


def _name(program: Any) -> str:
    """What a program is called; a partial by what it calls, an object by its class."""
    while isinstance(program, functools.partial):
        program = program.func
    return str(getattr(program, "__qualname__", None) or type(program).__qualname__)


def _file(program: Any) -> Path | None:
    """The file that holds a program; None for one that was typed in, or is not Python's."""
    while isinstance(program, functools.partial):
        program = program.func
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(program) if callable(program) else program) or "")
    except TypeError:
        try:
            path = Path(inspect.getsourcefile(type(program)) or "")
        except TypeError:
            return None
    return path if path.is_file() else None


def _digest(paths: Sequence[Path], folder: Path) -> str:
    """A digest of the names and contents of these files."""
    found = hashlib.blake2b(digest_size=16)
    for path in paths:
        found.update(str(path.relative_to(folder)).encode())
        found.update(path.read_bytes())
    return found.hexdigest()
