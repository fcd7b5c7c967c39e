"""Devices, on a machine without an accelerator: credo on the pretend device of tests/pretend."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases.tree import ROOT
from tests.pretend.device import build

FAST = (  # one of each kind; the slow test runs them all
    "coin_toss",
    "regression, batches of 10",
    "mixture, summed out",
    "switches, one-flip",
    "batch norm",
)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here to build the pretend device with")
    return build(tmp_path_factory.mktemp("pretend"))


def printed(module: str, *arguments: str) -> dict:
    command = [sys.executable, "-m", f"tests.pretend.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def walk(library: Path) -> dict:
    return printed("walk", str(library), *FAST)


@pytest.mark.parametrize("name", FAST)
def test_a_program_runs_on_the_device_as_on_the_cpu(walk, name):
    right(walk[name])


@pytest.mark.slow
def test_all_programs_of_the_benchmark_do(library):
    walk = printed("walk", str(library))
    assert len(walk) > 40
    for found in walk.values():
        right(found)


def right(found: dict) -> None:
    assert found["eager"] == 0.0
    assert found["recorded"] < 1e-5
    assert found["step"] == "captured once, compiled"
    assert found["after"] == {}
    assert found["generators"]


def test_every_promise_about_devices_is_kept(library):
    found = printed("rules", str(library))
    assert len(found) > 25
    assert {promise: kept for promise, kept in found.items() if kept is not True} == {}


def test_the_device_has_the_manners_of_cuda(library):
    found = printed("manners", str(library))
    assert len(found) > 40
    assert [name for name, behaves in found.items() if not behaves] == []
