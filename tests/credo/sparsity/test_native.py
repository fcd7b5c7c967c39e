"""The machine code of packed networks: it is there, or its absence is told. Its numbers: test_packed.py."""

import shutil

import pytest

from credo.sparsity import native as module


def test_a_compiler_of_this_computer_is_found(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert module.compiler() in (None, *filter(shutil.which, ("g++", "clang++")))


def test_without_a_compiler_or_with_one_that_fails_there_is_none(monkeypatch):
    for found in (None, "false"):
        monkeypatch.setattr(module, "compiler", lambda found=found: found)
        assert module.native.__wrapped__() is None


@pytest.mark.parametrize("program", ["#!/bin/sh\nexit 0\n", '#!/bin/sh\necho junk > "$8"\n', "no program"])
def test_a_compiler_whose_library_does_not_load_is_none(program, tmp_path, monkeypatch):
    """As of CXX=gcc, of a compiler for another processor, or where the folder of temporary files runs no programs."""
    found = tmp_path / "compiler"
    found.write_text(program)
    found.chmod(0o755)
    monkeypatch.setattr(module, "compiler", lambda: str(found))
    assert module.native.__wrapped__() is None


def test_without_a_folder_for_temporary_files_there_is_none(monkeypatch):
    monkeypatch.setattr(module.tempfile, "tempdir", "/no/such/folder")
    assert module.native.__wrapped__() is None
