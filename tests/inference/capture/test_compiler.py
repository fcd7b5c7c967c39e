"""The cache of compiled steps: where libraries are kept, and what names them. `test_native` compiles one."""

import ast
import shutil
import sys
from pathlib import Path

import pytest
import torch

from credo.inference.capture import compiler
from credo.inference.capture.aot import CompileJob

JOB = CompileJob("code", [0], None, {}, [], "Adam", {"eps": 1e-8}, 1, torch.float32)


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """Copies of the compiler's sources, in use."""
    copies = tuple(Path(shutil.copy(source, tmp_path)) for source in compiler._SOURCES)
    monkeypatch.setattr(compiler, "_SOURCES", copies)
    return compiler._SOURCES


def test_the_sources_are_the_program_and_the_loop():
    """All that a library is compiled from: the program imports nothing of credo."""
    program, loop = compiler._SOURCES
    assert [path.name for path in (program, loop)] == ["aot.py", "loop.cpp"] and loop.is_file()
    modules = set()
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.add(node.module.split(".")[0])
    assert {"torch", "hashlib"} <= modules <= {"torch", *sys.stdlib_module_names}


@pytest.mark.parametrize("name", ["aot.py", "loop.cpp"])
def test_another_source_is_another_library_and_another_loop(sources, name):
    before = compiler.library_folder(JOB), compiler._loop_library()
    assert before == (compiler.library_folder(JOB), compiler._loop_library())
    (source,) = (source for source in sources if source.name == name)
    source.write_text(source.read_text() + "\n")
    after = compiler.library_folder(JOB), compiler._loop_library()
    assert before[0] != after[0] and before[1] != after[1]


def test_another_job_is_another_library():
    others = [
        JOB._replace(code="other"),
        JOB._replace(settings={"eps": 1e-7}),
        JOB._replace(threads=2),
        JOB._replace(dtype=torch.float64),
    ]
    assert len({compiler.library_folder(job) for job in (JOB, *others)}) == 1 + len(others)


def test_where_libraries_are_kept(monkeypatch):
    monkeypatch.setenv("CREDO_CACHE", "/somewhere")
    assert str(compiler.cache_folder()) == "/somewhere"
    monkeypatch.delenv("CREDO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert str(compiler.cache_folder()) == "/elsewhere/credo"
