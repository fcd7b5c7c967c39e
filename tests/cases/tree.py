"""The project's own files: found in the tree, copied, and read for their imports."""

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAPPED = ("models", "guides", "inference")  # at the root of the tree, inside credo once installed


def left_out(folder: str, names: list[str]) -> set[str]:
    """The names in one folder that are not the project's own: hidden, built, an environment, data."""
    return {
        name
        for name in names
        if name.startswith(".")
        or name in {"_build", "build", "dist", "out", "__pycache__"}
        or name.endswith((".egg-info", ".npz"))
        or Path(folder, name, "pyvenv.cfg").exists()
    }


def files(folder: str = ".", suffix: str = ".py") -> Iterator[Path]:
    """The project's own files under a folder whose names end with `suffix`, relative to the root."""
    for where, folders, names in os.walk(ROOT / folder):
        dropped = left_out(where, folders + names)
        folders[:] = sorted(set(folders) - dropped)
        for name in sorted(set(names) - dropped):
            if name.endswith(suffix):
                yield Path(where, name).relative_to(ROOT)


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a source file, or of the code cells of a notebook without their magic lines."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.suffix != ".py":
        cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        lines = "\n".join(cell for cell in cells if not cell.startswith("%%")).splitlines()
        text = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
    return ast.parse(text, filename=str(path))


def imports(tree: ast.AST) -> Iterator[tuple[int, int, str | None]]:
    """Each import statement of a syntax tree: its line, its leading dots, and the module it names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.level, node.module


def check(wrong: list[str]) -> None:
    """Fails with these sentences and nothing else around them."""
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
