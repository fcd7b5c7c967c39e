"""Whether all processes of a job do the same: one code, one set of options, the same data; and one start.

Each process computes gradients of its own share of each batch, which only sum to that of the whole if all have the
same pair on the same data. What each has is described in words and digests, which all processes compare; so all of
them raise the same error, and none waits for another.
"""

import functools
import hashlib
import inspect
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..runtime.plain_state import plain_state, put_state
from ..runtime.state import State, entered, own_modules
from ..runtime.workers import Workers, agreed, gathered
from .identity import FEW, Identity, Other, data_identity, differences

ENGINE = Path(__file__).parents[1]
DATA = (
    "Every process gets all rows, in the same order, and takes its share of each batch itself: pass the whole data on "
    "all ranks, not a shard of them; draw or shuffle them from the same seed"
)
CODE = "Start the same program, with the same versions, on all hosts"
OPTIONS = "Call with the same options on all ranks"
FIRST = Other(was="rank 0 has", had="rank 0 has", lacks="not on rank 0", alone="only on rank 0")


def refuse_other_options(workers: Workers | None, call: str, options: Identity) -> None:
    """Raises ValueError on all ranks where one of them calls with other options. call: "credo.fit" say."""
    _refuse(workers, f"{call} got other options", options, OPTIONS)


def refuse_other_pair(
    workers: Workers | None, model: Any, guide: Any, data: Sequence[Any], names: Sequence[str]
) -> None:
    """Raises ValueError on all ranks where one of them has other code or other data, naming rank and difference."""
    if workers is not None:
        _refuse(workers, "the code differs", code_identity(model, guide), CODE)
        _refuse(workers, "the data differ", data_identity(data, names), DATA)


def refuse_other_sites(workers: Workers | None, sites: Identity) -> None:
    """Raises ValueError on all ranks where the pair has other densities on one of them. sites: its identity there."""
    _refuse(workers, "the pairs differ", sites, f"{CODE}: a constant, a file or a seed that they read differs")


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


def _refuse(workers: Workers | None, what: str, mine: Identity, remedy: str) -> None:
    if workers is None:
        return
    every = gathered(workers, mine)
    of_rank = [(rank, differences(other, every[0], FIRST)) for rank, other in enumerate(every)]
    if found := [f"rank {rank}: {each}" for rank, several in of_rank for each in several]:
        more = f" and {len(found) - FEW} more" if len(found) > FEW else ""
        raise ValueError(f"{what} on the ranks of this job. {'; '.join(found[:FEW])}{more}. {remedy}")


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
