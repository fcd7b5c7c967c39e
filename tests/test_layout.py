"""The rules that hold the house up: what stands where, who imports whom, what an import and a wheel do."""

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAPPED = ("models", "guides", "inference")  # at the root of the tree, inside credo once installed


def left_out(folder: str, names: list[str]) -> set[str]:
    """The names in one folder that are not the project's own: hidden, built, an environment, data."""
    return {
        name
        for name in names
        if name.startswith(".")
        or name in {"build", "dist", "out", "__pycache__"}
        or name.endswith((".egg-info", ".npz"))
        or Path(folder, name, "pyvenv.cfg").exists()
    }


def files(folder: str = ".", suffix: str = ".py") -> Iterator[Path]:
    """The project's own files under a folder, relative to the root."""
    for where, folders, names in os.walk(ROOT / folder):
        dropped = left_out(where, folders + names)
        folders[:] = sorted(set(folders) - dropped)
        for name in sorted(set(names) - dropped):
            if name.endswith(suffix):
                yield Path(where, name).relative_to(ROOT)


def code(path: Path) -> str:
    """The Python in a source file, or in the code cells of a notebook less its magic lines."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join(cell for cell in cells if not cell.startswith("%%")).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def imports(path: Path) -> Iterator[tuple[int, int, str | None]]:
    """Each import statement of a file: its line, its leading dots, and the module it names."""
    for node in ast.walk(ast.parse(code(path), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.level, node.module


def check(wrong: list[str]) -> None:
    """Fail with these sentences and nothing else around them."""
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def test_every_pair_has_its_four_files():
    names = [path.stem for path in sorted((ROOT / "models").glob("[!_]*.py"))]
    check([] if names else ["models/ holds no pair."])
    others = ("guides/{}.py", "tests/test_{}.py", "notebooks/{}.ipynb")
    check(
        [
            f"models/{name}.py is a pair without {other.format(name)}: add that file, "
            f"or rename the model to models/_{name}.py if it is not a pair."
            for name in names
            for other in others
            if not (ROOT / other.format(name)).is_file()
        ]
        + [
            f"guides/{path.name} guides nothing: models/{path.name} is missing."
            for path in sorted((ROOT / "guides").glob("[!_]*.py"))
            if path.stem not in names
        ]
    )


def test_the_folders_never_import_each_other():
    wrong = []
    for folder in MAPPED:
        for path in files(folder):
            depth = len(path.parts) - 1  # as many leading dots as this stay inside the folder
            for line, dots, module in imports(path):
                leaves = dots > depth
                by_name = dots == 0 and module and module.split(".")[0] in ("credo", *MAPPED)
                if leaves or by_name or (dots and module is None):
                    wrong.append(
                        f"{path}:{line} imports {'.' * dots}{module or ''}: inside {folder}/ write "
                        f"`from .x import y`; nothing in it imports another folder or credo itself."
                    )
    check(wrong)


def test_tests_notebooks_and_benchmarks_import_the_installed_name():
    sources = [*files("tests"), *files("benchmarks"), *files("notebooks"), *files("notebooks", ".ipynb")]
    check(
        [
            f"{path} imports {module}: write credo.{module}, for the two would be different modules."
            for path in sources
            for _, dots, module in imports(path)
            if not dots and module and module.split(".")[0] in MAPPED
        ]
    )


def test_files_stay_short():
    lengths = {
        path: len((ROOT / path).read_text(encoding="utf-8").splitlines())
        for folder in ("credo", *MAPPED)
        for path in files(folder)
    }
    check([f"{path} has {n} lines: keep it under 260." for path, n in lengths.items() if n >= 260])


def test_no_file_is_called_utils():
    check([f"{path}: name it for what it does." for path in files() if path.name == "utils.py"])


def test_notebooks_hold_no_output():
    check(
        [
            f"{path}, cell {number} holds output: clear the outputs of all cells and save."
            for path in files("notebooks", ".ipynb")
            for number, cell in enumerate(json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"], start=1)
            if cell.get("outputs") or cell.get("execution_count")
        ]
    )


LOOK_AROUND = """
import importlib, random, sys, warnings
import matplotlib, numpy, pandas, pyro, torch

pyro.param("kept", torch.ones(1))  # so that clearing the store shows

def state():
    kind, keys, *rest = numpy.random.get_state()
    return {
        "Pyro's parameter store": {name: value.tolist() for name, value in pyro.get_param_store().items()},
        "Pyro's settings, validation among them": pyro.settings.get(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's precision of a float32 product": torch.get_float32_matmul_precision(),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's random state": torch.get_rng_state().tolist(),
        "numpy's random state": (kind, keys.tolist(), *rest),
        "Python's random state": random.getstate(),
        "warnings.filters": list(warnings.filters),
        "matplotlib.rcParams": dict(dict.items(matplotlib.rcParams)),  # as stored: reading one may resolve it
    }

def changed(before, by):
    for what, value in state().items():
        if value != before[what]:
            print(f"{by} changes {what}")

before = state()
import credo
changed(before, "import credo")

# The modules may bring scikit-learn and scipy, whose own imports add warning filters.
import scipy.stats, sklearn.datasets
for module in sys.argv[1:]:
    before = state()
    importlib.import_module(module)
    changed(before, f"import {module}")
"""


def test_importing_credo_changes_nothing():
    sources = [path.with_suffix("") for path in files("credo")]
    sources += [Path("credo", path.with_suffix("")) for folder in MAPPED for path in files(folder)]
    modules = [".".join(path.parts) for path in sources if path.name not in ("__init__", "__main__")]
    run = subprocess.run([sys.executable, "-c", LOOK_AROUND, *modules], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    check(run.stdout.splitlines())


def test_a_wheel_holds_credo_and_nothing_else(tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=left_out)
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    run = subprocess.run([*wheel, "--wheel-dir", tmp_path, tree], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (built,) = tmp_path.glob("credo-*.whl")
    held = set(zipfile.ZipFile(built).namelist())
    tops = {name.split("/")[0] for name in held}
    assert tops == {"credo", "-".join(built.name.split("-")[:2]) + ".dist-info"}
    assert "credo/py.typed" in held, "the wheel lacks credo/py.typed: see package_data in setup.cfg"
    wanted = {path.as_posix() for path in files("credo")}
    wanted |= {f"credo/{path.as_posix()}" for folder in MAPPED for path in files(folder)}
    shipped = {name for name in held if name.endswith(".py")}
    check(
        [f"the wheel lacks {name}: is its folder in setup.cfg?" for name in sorted(wanted - shipped)]
        + [f"the wheel holds {name}, which is no part of credo" for name in sorted(shipped - wanted)]
    )
