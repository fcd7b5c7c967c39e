"""A program of docs/, such as docs/house.py, as a module: it belongs to no package."""

import importlib.util
from types import ModuleType

from tests.cases.tree import ROOT


def docs_program(name: str) -> ModuleType:
    """The module that docs/NAME.py defines."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
