"""The pairs: a model and the guide of the same name. The file names are the registry."""

import ast
import importlib
import importlib.util
import inspect
import sys
import traceback
import zlib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, NamedTuple

from credo import models


class Pair(NamedTuple):
    """A model with its guide, ready for `credo.fit(pair.model, pair.guide, *pair.data())`.

    name: the file name. model, guide: Pyro functions of the data. posterior: posterior(*data), the exact posterior
    derived by hand; None where the file defines none. data: data() returns the arguments of the built-in example;
    None where the file defines none.

    >>> pair = credo.load("coin_toss")
    >>> pair.name, pair.posterior is None
    ('coin_toss', False)
    """

    name: str
    model: Callable[..., Any]
    guide: Callable[..., Any]
    posterior: Callable[..., Any] | None
    data: Callable[..., tuple[Any, ...]] | None


def names() -> list[str]:
    """The names of the pairs that come with credo, sorted.

    >>> "coin_toss" in credo.names()
    True
    """
    return sorted(m.name for m in iter_modules(models.__path__) if not m.name.startswith("_"))


def load(name: str | Path) -> Pair:
    """The pair with this name, or the pair that a user's own file defines.

    name: one of `credo.names()`, or a path that ends in .py to a file that defines `model` and `guide`.
    Raises ValueError for a name that is no pair, for a file that does not exist or cannot be imported, and for a file
    that lacks `model` or `guide`.

    >>> pair = credo.load("coin_toss")
    >>> (flips,) = pair.data()
    >>> flips.shape
    torch.Size([350757])
    """
    pair = load_alone(name)
    if pair.guide is None:
        raise ValueError(f"{name}: defines no function 'guide'; a pair needs model and guide")
    return pair


def load_alone(name: str | Path) -> Pair:
    """The pair as by `load`; a user's own file may define a model alone, then its guide is None: one is chosen."""
    if isinstance(name, Path):
        name = str(name)
    if not isinstance(name, str):
        raise ValueError(f"name: got {type(name).__name__}, wanted one of {names()}, or the path of your own .py file")
    if name.endswith(".py"):
        model_file = guide_file = _from_file(Path(name))
        name = Path(name).stem
    elif name in names():
        model_file, guide_file = (importlib.import_module(f"credo.{folder}.{name}") for folder in ("models", "guides"))
    else:
        close = get_close_matches(name, names(), n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"no pair named {name!r}{hint}: wanted one of {names()}, or the path of your own .py file")
    guide: Any = getattr(guide_file, "guide", None)
    misspelt = _misspelt(guide_file) if guide is None else ""
    for module, wanted, there in (
        (model_file, "model", callable(getattr(model_file, "model", None))),
        (guide_file, "guide", callable(guide) or (guide is None and not misspelt)),
    ):
        if not there:
            hint = f"; did you mean {misspelt!r} to be it?" if wanted == "guide" and misspelt else ""
            raise ValueError(f"{module.__file__}: defines no function {wanted!r}; a pair needs model and guide{hint}")
    posterior, data = getattr(model_file, "posterior", None), getattr(model_file, "data", None)
    for wanted, found in (("posterior", posterior), ("data", data)):
        if found is not None and not callable(found):
            raise ValueError(f"{model_file.__file__}: {wanted!r} is a {type(found).__name__}, wanted a function")
    return Pair(name, model_file.model, guide, posterior, data)


def _misspelt(module: ModuleType) -> str:
    """The name of a function of the file that was perhaps to be called `guide`; empty if there is none."""
    names = [name for name, value in vars(module).items() if callable(value)]
    return next(iter(get_close_matches("guide", names, n=1, cutoff=0.75)), "")


def description(name: str) -> str:
    """The docstring of the model's file, read without running the file: its first line is the pair's title.

    name: as for `load`, a pair that exists.
    """
    path = Path(name) if name.endswith(".py") else Path(models.__path__[0], f"{name}.py")
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def with_settings(pair: Pair, settings: Mapping[str, Any], option: str = "settings: ") -> Pair:
    """The pair with these settings of its model, which guide and posterior get too.

    option: what the message about a setting begins with. Raises ValueError for a name that is no setting of the model,
    and for a guide that lacks it but is given others.
    """
    if not settings:
        return pair
    parameters = inspect.signature(pair.model).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY or p.default not in (p.empty, None)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in settings:
        if name not in known and not open_ended:
            close = get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{option}{name}: the model has no setting of this name, its settings: {known}{hint}")

    def bound(function: Any) -> Any:
        if not callable(function):
            return function
        mine = inspect.signature(function).parameters.values()
        takes = {p.name for p in mine if p.kind is not p.VAR_POSITIONAL}
        any_name = any(p.kind is p.VAR_KEYWORD for p in mine)
        return partial(function, **{n: v for n, v in settings.items() if any_name or n in takes})

    posterior = pair.posterior
    if posterior is not None and not settings.keys() <= inspect.signature(posterior).parameters.keys():
        posterior = None  # of other settings: not that of this model
    return pair._replace(model=bound(pair.model), guide=bound(pair.guide), posterior=bound(posterior))


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        got = "a folder, not a file" if path.is_dir() else "no file"
        raise ValueError(f"{got} {str(path)!r}: wanted a .py file that holds model and guide")
    name = f"credo_pair_{path.stem}_{zlib.crc32(str(path.resolve()).encode()):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that `beside` finds the other functions of the file
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's file may raise anything, SystemExit too
        sys.modules.pop(name, None)
        place = place_in(path, error) or str(path)
        raise ValueError(f"{place}: cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def place_in(path: Path, error: BaseException) -> str:
    """The file and the line in it where an error arose, for messages; empty if it did not arise in that file."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}"
    frames, file = traceback.extract_tb(error.__traceback__), path.resolve()
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == file]
    return f"{path}, line {lines[-1]}" if lines else ""
