"""`import credo` and `credo --help` import little; every public name is there when it is asked for."""

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import credo

HEAVY = ("torch", "pyro", "pandas", "numpy", "matplotlib", "sklearn", "scipy")


def output(program: str, *arguments: str) -> str:
    """What a program prints in a new process."""
    run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("command", [None, "--help", "--version", "list", "fit --help", "demo --help"])
def test_import_and_help_leave_the_heavy_packages_alone(command: str | None) -> None:
    program = "import sys, credo\n"
    if command is not None:
        program += f"from credo.cli import main\nmain({command.split()}, standalone_mode=False)\n"
    program += f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    assert output(program).splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize("name", credo.__all__)
def test_every_public_name_is_there_before_any_other(name: str) -> None:
    value = getattr(credo, name)
    assert name in dir(credo) and getattr(credo, name) is value
    if not hasattr(value, "__path__") and not hasattr(value, "__file__"):  # modules are not pickled
        assert pickle.loads(pickle.dumps(value)) is value


def test_each_way_to_import_reaches_the_same_objects() -> None:
    ways = "import credo.data; from credo import *; from credo import fit as again, plots as pictures\nimport credo\n"
    same = "credo.fit is fit is again and credo.data is data and credo.plots is plots is pictures"
    assert output(ways + f"print({same}, credo.data.__name__, credo.fit.__name__)") == "True credo.data fit\n"


def test_type_checkers_see_the_names_that_the_program_sees() -> None:
    tree = ast.parse(Path(credo.__file__).read_text(encoding="utf-8"))
    (branch,) = [n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
    lines = [node for node in branch.body if isinstance(node, ast.ImportFrom)]
    seen = {
        a.asname: node.module if node.module != "credo" else f"credo.{a.name}" for node in lines for a in node.names
    }
    assert seen == credo._MODULE_OF, "credo/__init__.py: write each public name in _MODULE_OF and under TYPE_CHECKING"


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"module 'credo' has no attribute 'fitt'; did you mean 'fit'\?"):
        credo.fitt  # noqa: B018
    with pytest.raises(AttributeError, match=r"has no attribute 'zzz'$"):
        credo.zzz  # noqa: B018
    with pytest.raises(ImportError, match="compere"):
        exec("from credo import compere")


def test_help_lists_the_public_names() -> None:
    text = output("import pydoc, credo; print(pydoc.render_doc(credo, renderer=pydoc.plaintext))")
    for name in credo.__all__:
        assert name in text


@pytest.mark.parametrize("name", ["models", "guides", "inference", "pairs", "report"])
def test_folders_are_found_as_attributes(name):
    assert output(f"import credo; print(credo.{name}.__name__)").strip() == f"credo.{name}"
