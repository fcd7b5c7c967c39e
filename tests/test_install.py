"""An editable install is found from every folder, also from the folder above a clone called credo."""

import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.cases.tree import ROOT, left_out

USE = "import credo; print(credo.__file__); print(credo.load.__module__, credo.names()[0])"


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> tuple[Path, Path]:
    """A clone called credo with an editable install as `make` does it, and the Python of its environment.

    The environment borrows the packages of this one, so nothing is downloaded.
    """
    clone = tmp_path_factory.mktemp("above") / "credo"
    shutil.copytree(ROOT, clone, ignore=left_out)
    venv.create(clone / ".venv", with_pip=False)
    python = clone / ".venv/bin/python"
    site = Path(output(python, clone, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed", "--editable", str(clone)]
    run = subprocess.run([python, "-m", "pip", *pip], cwd=clone, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    shutil.copy(ROOT / ".ci/credo_first.pth", site)
    return clone, python


def output(python: Path, folder: Path, program: str) -> str:
    run = subprocess.run([python, "-c", program], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize("folder", ["..", ".", "tests", "/"])
def test_credo_is_found_from_every_folder(clone, folder: str) -> None:
    tree, python = clone
    where, names = output(python, tree / folder, USE).splitlines()
    assert Path(where).resolve() == (tree / "credo/__init__.py").resolve()
    assert names == "credo.pairs bnn_classifier"


def test_the_line_is_needed(clone) -> None:
    """Without credo_first.pth the folder above finds the clone itself, an empty package: once not, drop the file."""
    tree, python = clone
    program = "import sys; sys.meta_path.sort(key=lambda f: '__editable__' in f.__module__); import credo"
    assert output(python, tree.parent, program + "; print(credo.__file__)") == "None"


def test_make_installs_the_line() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = [part for part in makefile.split("\n\n") if "$(INSTALLED):" in part]
    editable, line = recipe.index('-e ".[test]"'), recipe.index("cp .ci/credo_first.pth")
    assert editable < line, "Makefile: copy .ci/credo_first.pth after the editable install"


def test_nothing_else_changes_its_place(clone) -> None:
    tree, python = clone
    finders = output(
        python, tree, "import sys; print([getattr(f, '__name__', type(f).__name__) for f in sys.meta_path])"
    )
    assert finders.startswith("['_EditableFinder', ") and finders.count("_EditableFinder") == 1
    assert finders.index("BuiltinImporter") < finders.index("PathFinder")
