"""The pairs: a model, and the guide of the same name. The file name is the registry."""

import importlib
import importlib.util
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, NamedTuple

from credo import models


class Pair(NamedTuple):
    """A model with its guide. posterior, data: None where the file has none; `data()` is the built-in example."""

    name: str
    model: Callable[..., Any]
    guide: Callable[..., Any]
    posterior: Callable[..., Any] | None
    data: Callable[..., tuple[Any, ...]] | None


def names() -> list[str]:
    """The names of the pairs that come with credo, sorted."""
    return sorted(m.name for m in iter_modules(models.__path__) if not m.name.startswith("_"))


def load(name: str) -> Pair:
    """The pair of this name, or of a file of one's own: a path ending in .py that holds `model` and `guide`.

    Raises ValueError for a name that is no pair, and for a file that lacks one of the two.
    """
    if name.endswith(".py"):
        world = belief = _from_file(Path(name))
        name = Path(name).stem
    elif name in names():
        world, belief = (importlib.import_module(f"credo.{folder}.{name}") for folder in ("models", "guides"))
    else:
        raise ValueError(f"no pair named {name!r}: wanted one of {names()}, or the path of a .py file with one's own")
    for module, wanted in ((world, "model"), (belief, "guide")):
        if not callable(getattr(module, wanted, None)):
            raise ValueError(f"{module.__file__}: holds no function {wanted!r}; a pair needs model and guide")
    return Pair(name, world.model, belief.guide, getattr(world, "posterior", None), getattr(world, "data", None))


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"no file {str(path)!r}: wanted a .py file that holds model and guide")
    name = f"credo_pair_{path.stem}_{zlib.crc32(str(path.resolve()).encode()):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that a model can be traced back to the posterior beside it
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise ValueError(f"{path}: cannot be loaded: {type(error).__name__}: {error}") from error
    return module
