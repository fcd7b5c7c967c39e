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
    shutil.copytree(ROOT / ".ci", clone / ".ci")
    venv.create(clone / ".venv", with_pip=False)
    python = clone / ".venv/bin/python"
    site = Path(output(python, clone, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed", "--editable", str(clone)]
    run = subprocess.run([python, "-m", "pip", *pip], cwd=clone, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    run = subprocess.run([python, ".ci/link.py"], cwd=clone, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
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


def test_the_link_is_needed(clone) -> None:
    """Without the link the folder above finds the clone itself, an empty package: if it does not, drop .ci/link.py."""
    tree, python = clone
    program = "import sys; sys.path = [p for p in sys.path if not p.endswith('credo_link')]; import credo"
    assert output(python, tree.parent, program + "; print(credo.__file__)") == "None"


def test_a_copy_of_the_tree_is_found_where_it_is_asked_for(clone, tmp_path) -> None:
    """The current folder and PYTHONPATH come first, as ever: another clone is not shadowed by the installed one."""
    tree, python = clone
    shutil.copytree(tree / "credo", tmp_path / "credo")
    where = output(python, tmp_path, "import credo; print(credo.__file__)")
    assert Path(where).resolve() == (tmp_path / "credo/__init__.py").resolve()


def test_make_makes_the_link() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = [part for part in makefile.split("\n\n") if "$(INSTALLED):" in part]
    editable, link = recipe.index('-e ".[test]"'), recipe.index("python .ci/link.py")
    assert editable < link, "Makefile: run .ci/link.py after the editable install"
