"""The machine code of packed networks: it is there, or its absence is told. Its numbers: test_packed.py."""

import shutil

from credo.sparsity import native as module


def test_a_compiler_of_this_computer_is_found(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert module.compiler() in (None, *filter(shutil.which, ("g++", "clang++")))


def test_without_a_compiler_or_with_one_that_fails_there_is_none(monkeypatch):
    for found in (None, "false"):
        monkeypatch.setattr(module, "compiler", lambda found=found: found)
        assert module.native.__wrapped__() is None
