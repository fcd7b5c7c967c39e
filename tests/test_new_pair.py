"""A new pair is four new files and no file edited: done in a copy of the tree, then used from the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases.tree import ROOT, left_out

MODEL = '''"""Waiting times: how long until the next bus, when buses keep no timetable.

    rate ~ Gamma(2, 2),   t_n ~ Exponential(rate),   n = 1..N
"""

import pyro
import pyro.distributions as dist
import torch


def model(t: torch.Tensor) -> torch.Tensor:
    """t: shape (N,), minutes. Returns the rate, a scalar."""
    rate = pyro.sample("rate", dist.Gamma(t.new_tensor(2.0), t.new_tensor(2.0)))
    with pyro.plate("N", len(t)):
        pyro.sample("t", dist.Exponential(rate), obs=t)
    return rate


def data() -> tuple[torch.Tensor]:
    """Ten waits."""
    return (torch.linspace(0.1, 3.0, 10),)
'''
GUIDE = '''"""Waiting times: a log-normal rate."""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints


def guide(t: torch.Tensor) -> torch.Tensor:
    """t: shape (N,), used for dtype and device only. Returns the rate, a scalar."""
    loc = pyro.param("loc", t.new_tensor(0.0))
    scale = pyro.param("scale", t.new_tensor(0.5), constraint=constraints.positive)
    return pyro.sample("rate", dist.LogNormal(loc, scale))
'''
TEST = """import credo


def test_it_runs():
    pair = credo.load("bus")
    assert len(credo.fit(pair.model, pair.guide, *pair.data(), steps=2).losses) == 2
"""
COMMANDS = """

def test_its_commands():  # as `python -m credo` runs them, without an import of torch for each
    from credo.cli import main

    for line in ("plan bus", "fit bus --steps 50"):
        print(f"\\n== credo {line}")
        main(line.split(), standalone_mode=False)
"""
CELL = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Waiting for the bus"]}
NOTEBOOK = json.dumps({"cells": [CELL], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
FILES = {
    "models/bus.py": MODEL,
    "guides/bus.py": GUIDE,
    "tests/test_bus.py": TEST,
    "notebooks/bus.ipynb": NOTEBOOK,
}


@pytest.fixture
def tree(tmp_path):
    """A copy of the repository, and a way to run a module of Python in it."""
    copy = tmp_path / "tree"
    shutil.copytree(ROOT, copy, ignore=left_out)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)

    return copy, run


FOUR_FILES = "tests/test_layout.py::test_every_pair_has_its_four_files"
KEPT = [
    "tests/credo/test_pairs.py::test_a_pair_keeps_the_contract[bus]",
    "tests/credo/test_pairs.py::test_the_built_in_data_are_the_arguments_and_so_are_the_rows_held_out[bus]",
]


def test_four_new_files_are_a_pair(tree):
    copy, run = tree
    before = contents(copy)
    for path, text in FILES.items():
        assert not (copy / path).exists()
        (copy / path).write_text(text, encoding="utf-8")
    (copy / "tests/test_bus.py").write_text(TEST + COMMANDS, encoding="utf-8")
    listed = run("credo", "list")
    assert listed.returncode == 0, listed.stderr
    done = run("pytest", "-q", "-s", "-p", "no:cacheprovider", FOUR_FILES, *KEPT, "tests/test_bus.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
    (copy / "tests/test_bus.py").write_text(TEST, encoding="utf-8")
    parts = [f"credo list {listed.stdout}", *done.stdout.split("== ")]
    said = [" ".join(part.split()) for part in parts]  # the command line breaks its lines between words
    for command, words in (
        ("list", ["bus", "Waiting times: how long until the next bus"]),
        ("plan bus", ["rate", "LogNormal", "pathwise"]),
        ("fit bus --steps 50", ["after the 50 steps asked for", "latents: rate", "95%"]),
    ):
        (part,) = [part for part in said if part.startswith(f"credo {command} ")]
        for word in words:
            assert word in part, done.stdout
    after = contents(copy)
    assert set(after) - set(before) == set(FILES)
    assert all(after[path] == before[path] for path in before)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of the tree by its path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_of_three_files_the_missing_one_is_named(tree):
    copy, run = tree
    for path, text in FILES.items():
        if path != "guides/bus.py":
            (copy / path).write_text(text, encoding="utf-8")
    done = run("pytest", "-q", "-p", "no:cacheprovider", FOUR_FILES)
    assert done.returncode == 1
    assert "models/bus.py is a pair without guides/bus.py: add that file" in done.stdout
