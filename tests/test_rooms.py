"""The rules of the rooms of inference/: their order, their files, and what a room is.

The order of the rooms is one list, ORDER in docs/house.py, which also draws them.
"""

import ast
import runpy
from configparser import ConfigParser
from pathlib import Path

from tests.cases.tree import ROOT, check, files, imports, parsed

ORDER = runpy.run_path(str(ROOT / "docs/house.py"))["ORDER"]
INFERENCE = ROOT / "inference"
ROOMS = sorted({path.parts[1] for path in files("inference") if len(path.parts) > 2})
MOST = 25  # files of a room, which has fewer

# A program of its own process: torch's compiler takes a second to import, which runs without it must not pay.
COMPILER = Path("inference/capture/aot.py")

# Words of a plan that no estimator has, and the file of inference/ that has them.
ELSEWHERE = {"log q": "objective/elbo.py", "summed out": "pair/summed_out.py"}

# Files of inference/ without a test file of their own, and the test in tests/ that covers them. Shrink this list.
TESTED_IN: dict[str, str] = {
    "capture/cuda_graph.py": "inference/variational/test_device.py",
    "estimators/estimator.py": "test_new_estimator.py",
    "estimators/flipout.py": "inference/pair/test_local_reparam.py",
    "estimators/recipe.py": "inference/planning/test_legal.py",
}


def functions(tree: ast.AST) -> list[ast.AST]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]


def test_every_room_has_its_place_in_the_order():
    check(
        [
            f"inference/{room}/ has no place in ORDER of docs/house.py: add it there."
            for room in ROOMS
            if room not in ORDER
        ]
    )


def test_rooms_import_downwards_only():
    wrong = []
    for path in files("inference"):
        if len(path.parts) < 3 or path.parts[1] not in ORDER:
            continue
        room = path.parts[1]
        for line, dots, module in imports(parsed(path)):
            other = (module or "").split(".")[0]
            if dots == 2 and (other not in ORDER or ORDER.index(other) > ORDER.index(room)):
                wrong.append(
                    f"{path}:{line} imports from {other}, which is no earlier room than {room}: pass what it needs in "
                    f"as an argument, or move the definition into {room}/ or an earlier room (ORDER in docs/house.py)."
                )
            elif dots == 2 and other == room:
                wrong.append(f"{path}:{line} names its own room: write `from .{module.partition('.')[2]} import y`.")
    check(wrong)


def test_imports_stand_at_the_top_of_a_file():
    wrong = []
    for path in files("inference"):
        tree = parsed(path)
        found = {(line, dots) for function in functions(tree) for line, dots, _ in imports(function)}
        inside = {line for line, dots in found if dots or path != COMPILER}
        wrong += [
            f"{path}:{line} imports inside a function: move the import to the top of the file; if that makes a circle, "
            f"move the definition into an earlier room."
            for line in sorted(inside)
        ]
        wrong += [
            f"{path} names TYPE_CHECKING: import the type at the top of the file; if that makes a circle, write a "
            f"Protocol in an earlier room."
            for _ in [node for node in ast.walk(tree) if "TYPE_CHECKING" in ast.dump(node)][:1]
        ]
    check(wrong)


def test_every_file_is_in_a_room():
    check(
        [
            f"inference/{path.name} is in no room: move it into one, inference/ROOM/{path.name}."
            for path in sorted(INFERENCE.iterdir())
            if path.is_file() and path.name != "__init__.py" and not path.name.startswith(".")
        ]
        + [
            f"{path} is two folders deep: move it to inference/{path.parts[1]}/{path.name}; a room has no rooms."
            for path in files("inference", "")
            if len(path.parts) > 3
        ]
    )


def test_no_room_is_too_full():
    counts = {room: len(list(files(f"inference/{room}", ""))) for room in ROOMS}
    check(
        [
            f"inference/{room}/ holds {n} files: keep it under {MOST}; give a part of them a room of its own."
            for room, n in counts.items()
            if n >= MOST
        ]
    )


def test_setup_cfg_lists_every_room():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = config["options"]["packages"].split()
    wanted = ["credo.inference", *(f"credo.inference.{room}" for room in ROOMS)]
    found = [name for name in listed if name.startswith("credo.inference")]
    check(
        [f"setup.cfg lacks {name}: add it as a line of its own to packages." for name in wanted if name not in found]
        + [f"setup.cfg lists {name}, which is no folder: remove it." for name in sorted(set(found) - set(wanted))]
        + [f"setup.cfg lists {name} twice: remove one." for name in sorted(set(found)) if found.count(name) > 1]
    )


def test_the_init_of_a_room_is_one_docstring():
    wrong = []
    for room in ("", *ROOMS):
        path = Path("inference", room, "__init__.py")
        if not (ROOT / path).is_file():
            wrong.append(f"{path} is missing: write it, one docstring that says what the room is for.")
            continue
        tree = parsed(path)
        if not ast.get_docstring(tree) or len(tree.body) != 1:
            wrong.append(f"{path}: wanted one docstring and no code; import from the file that defines a name.")
    check(wrong)


def test_the_init_of_a_room_names_its_files():
    wrong = []
    for room in ROOMS:
        text = ast.get_docstring(parsed(Path("inference", room, "__init__.py"))) or ""
        there = {path.name for path in files(f"inference/{room}", "")} - {"__init__.py"}
        named = {line.split()[0] for line in text.splitlines() if line.split() and line.startswith("    ")}
        named = {name for name in named if "." in name}
        wrong += [
            f"inference/{room}/__init__.py does not name {name}: add a line for it." for name in sorted(there - named)
        ]
        wrong += [
            f"inference/{room}/__init__.py names {name}, which is gone: remove it." for name in sorted(named - there)
        ]
    check(wrong)


def test_every_file_has_its_test():
    """inference/ROOM/FILE.py is tested by tests/inference/ROOM/test_FILE.py, or TESTED_IN says where."""
    sources = {f"{p.parts[1]}/{p.name}" for p in files("inference") if len(p.parts) > 2 and p.name != "__init__.py"}
    mirrored = {name for name in sources if (ROOT / "tests/inference" / name.replace("/", "/test_")).is_file()}
    check(
        [
            f"inference/{name} has no test: write tests/inference/{name.replace('/', '/test_')}."
            for name in sorted(sources - mirrored - TESTED_IN.keys())
        ]
        + [
            f"TESTED_IN names {name}, which has a test of its own: remove it."
            for name in sorted(mirrored & TESTED_IN.keys())
        ]
        + [f"TESTED_IN names {name}, which is gone: remove it." for name in sorted(TESTED_IN.keys() - sources)]
        + [
            f"TESTED_IN sends {name} to tests/{test}, which is gone: name the test that covers it."
            for name, test in sorted(TESTED_IN.items())
            if not (ROOT / "tests" / test).is_file()
        ]
    )


def test_every_test_of_a_room_belongs_to_a_room():
    check(
        [
            f"{path}: inference/{path.parts[2]}/ is no room; move the test to the room of the file that it tests."
            for path in files("tests/inference")
            if len(path.parts) > 3 and path.parts[2] not in ROOMS
        ]
    )


def test_the_words_of_a_plan_are_names_of_files():
    """Whoever reads a word in a plan finds it as a file: lower case, with _ for a hyphen or a space."""
    # Imported here: a room that imports upwards can break this import, and the rule above shall say why.
    from credo.inference.planning.legal import ESTIMATORS

    words = {estimator.name for estimator in ESTIMATORS} | {term for e in ESTIMATORS for term in e.terms} | {*ELSEWHERE}
    places = {
        word: ELSEWHERE.get(word, f"estimators/{word.lower().replace('-', '_').replace(' ', '_')}.py") for word in words
    }
    check(
        [
            f"a plan prints {word!r}, and there is no inference/{place}: give the file the name of the word."
            for word, place in sorted(places.items())
            if not (INFERENCE / place).is_file()
        ]
    )
