"""The rules of the tree: which files stand where, who imports whom, what an import does and what a wheel holds.

The rules of the rooms of inference/ are in test_rooms.py.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.cases.tree import MAPPED, ROOT, check, files, imports, left_out, parsed

LINES = 250  # every file of credo/, models/, guides/ and inference/ is shorter
SHIPPED = (".py", ".typed", ".css", ".html", ".cpp")


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
            for line, dots, module in imports(parsed(path)):
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
            for _, dots, module in imports(parsed(path))
            if not dots and module and module.split(".")[0] in MAPPED
        ]
    )


def test_files_stay_short():
    lengths = {
        path: len((ROOT / path).read_text(encoding="utf-8").splitlines())
        for folder in ("credo", *MAPPED)
        for path in files(folder)
    }
    check(
        [
            f"{path} has {n} lines: keep it under {LINES}; move one of its ideas to a file of its own."
            for path, n in lengths.items()
            if n >= LINES
        ]
    )


def test_the_pages_state_the_length_that_is_checked():
    stated = [
        (path, int(number))
        for path in (Path("CONTRIBUTING.md"), Path("README.md"), *files("docs", ".md"))
        for number in re.findall(r"(?:under|fewer than) (\d+)\s+lines", (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert stated, "CONTRIBUTING.md: state the rule 'fewer than 250 lines'"
    check([f"{path}: got {n} lines, wanted {LINES}, as in test_layout.py." for path, n in stated if n != LINES])


def test_nothing_that_is_shipped_imports_a_mock():
    check(
        [
            f"{path}:{line} imports {module}: pass the function in as an argument; mocks belong in tests."
            for folder in ("credo", *MAPPED)
            for path in files(folder)
            for line, _, module in imports(parsed(path))
            if module and (module == "mock" or module.startswith("unittest"))
        ]
    )


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

# The modules may bring scikit-learn, scipy and, in the compiler's process, torch's compiler: their imports add filters.
import scipy.stats, sklearn.datasets, torch._inductor.cpp_builder
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


def test_wheel_and_source_hold_credo_and_nothing_else(tmp_path):
    """`python -m build` makes the source archive from the tree, and the wheel from the source archive."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=left_out)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(tree)]
    run = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,), (source,) = tmp_path.glob("credo-*.whl"), tmp_path.glob("credo-*.tar.gz")
    stem = "-".join(wheel.name.split("-")[:2])
    in_wheel = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith(f"{stem}.dist-info/")}
    with tarfile.open(source) as archive:
        in_source = {m.name.removeprefix(f"{stem}/") for m in archive.getmembers() if m.isfile()}
    ours = {path.as_posix() for folder in ("credo", *MAPPED) for end in SHIPPED for path in files(folder, end)}
    installed = {name if name.startswith("credo/") else f"credo/{name}" for name in ours}
    made = {"PKG-INFO", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "Makefile"}
    made |= {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "constraints.txt"}
    folders = ("benchmarks", "docs", "notebooks", "tests")  # with them `make test` and `make docs` run from the archive
    found = (path for folder in folders for path in (tree / folder).rglob("*") if path.is_file())
    needed = made | {path.relative_to(tree).as_posix() for path in found}
    needed = {name for name in needed if not name.startswith("docs/notebooks/")}  # copies that the site makes
    beside = {name for name in in_source if name in needed or name.startswith(("credo.egg-info/", ".ci/"))}
    check(
        [
            f"the {kind} lacks {name}: add its folder to package_dir and packages in setup.cfg, "
            f"or its ending to package_data."
            for kind, lacks in (("wheel", installed - in_wheel), ("source archive", ours - in_source))
            for name in sorted(lacks)
        ]
        + [f"the source archive lacks {name}: name it in MANIFEST.in." for name in sorted(needed - in_source)]
        + [
            f"the {kind} holds {name}, which is no part of credo: take it out of package_data or packages in setup.cfg."
            for kind, extra in (("wheel", in_wheel - installed), ("source archive", in_source - ours - beside))
            for name in sorted(extra)
        ]
    )
