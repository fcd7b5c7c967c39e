"""A compiled step: the same run as the eager one, and nothing that is wrong on disk, or missing, does harm.

One library is compiled for all of these tests (some 10 s). Where there is no C++ compiler, only the rest is tested.
"""

import _ctypes
import math
import os
import shutil
import stat
import time
from pathlib import Path

import pytest
import torch

import credo
from credo.inference.capture import compiler, native
from credo.inference.capture.aot import CompileJob, seal
from credo.inference.capture.compiler import Compiling
from credo.inference.capture.native import NativeLoop

needs_compiler = pytest.mark.skipif(not compiler.has_compiler(), reason="no C++ compiler here")
FLIPS = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0])


def runner(compile=True, **options):
    pair = credo.load("coin_toss")
    return credo.SVI(pair.model, pair.guide, progress=False, plan="fast", particles=2, compile=compile, **options)


def native_of(svi):
    (recorded,) = svi._captures.recorded.values()
    return recorded.native


def compiled(svi, seconds=240):
    """Goes on with a run until it is compiled, or is not going to be."""
    svi.run(FLIPS, steps=200)
    end = time.monotonic() + seconds
    while isinstance(native_of(svi), Compiling | CompileJob) and time.monotonic() < end:
        svi.run(FLIPS, steps=200)
        time.sleep(0.1)
    return svi


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The folder of libraries, with that of the coin in it."""
    folder = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CREDO_CACHE", str(folder))
        patch.setattr("credo.inference.capture.native.PATIENCE", 0.0)
        torch.set_num_threads(1)
        svi = compiled(runner())
    assert isinstance(native_of(svi), NativeLoop), native_of(svi)
    shutil.rmtree(folder / "inductor")  # torch's own files, a hundred times as large
    return folder


@pytest.fixture
def here(library, monkeypatch, tmp_path):
    """A copy of that folder in use."""
    folder = shutil.copytree(library, tmp_path / "copy")
    monkeypatch.setenv("CREDO_CACHE", str(folder))
    return folder


@needs_compiler
def test_a_compiled_run_is_the_eager_one(here):
    """From the library on disk at once; its sums of iterates too, of which the answer is made."""
    svi, eager = runner(), runner(compile=False)
    fits = [one.run(FLIPS, steps=1000) for one in (svi, eager)]
    assert isinstance(native_of(svi), NativeLoop) and fits[0].plan.compiled == "captured once, compiled"
    assert svi.losses[:50] == pytest.approx(eager.losses[:50], rel=1e-5)
    assert svi.losses == pytest.approx(eager.losses, rel=1e-3)
    for name, value in fits[1].params.items():
        torch.testing.assert_close(fits[0].params[name], value, rtol=1e-4, atol=1e-4)
    states = [list(one._steps.optimiser.state.values()) for one in (svi, eager)]
    for a, b in zip(*states, strict=True):
        assert a["step"].item() == b["step"].item() == 1000
        torch.testing.assert_close(a["exp_avg"], b["exp_avg"], rtol=1e-2, atol=1e-3)


@pytest.mark.filterwarnings("ignore:the steps get different data")  # on purpose
@needs_compiler
def test_compiled_and_eager_steps_go_on_from_each_other(here):
    """Other data for a while, which runs eagerly; the learning rate of a run until converged reaches compiled steps."""
    runs = []
    for compile in (True, False):
        svi = runner(compile)
        for _ in range(3):
            svi.run(FLIPS, steps=200)
            for n in (1, 2, 3, 4):
                svi.step(FLIPS[:n])
        fit = svi.run(FLIPS)
        runs.append((svi, fit))
    (svi, fit), (eager, wanted) = runs
    assert any(isinstance(r.native, NativeLoop) for r in svi._captures.recorded.values())
    assert svi.losses[:200] == pytest.approx(eager.losses[:200], rel=1e-4)
    assert fit.stopped.split(":")[0] == wanted.stopped.split(":")[0]
    exact = credo.compare(fit)
    assert exact["kl"].max() < 5e-3


@needs_compiler
@pytest.mark.parametrize("harm", ["bytes", "cut", "checksum", "no loop", "nothing"])
def test_a_broken_library_is_not_opened(here, harm):
    (library,) = here.glob("*/step.so")
    if harm == "bytes":
        library.write_bytes(library.read_bytes()[:-100] + b"\0" * 100)
    elif harm == "cut":
        library.write_bytes(library.read_bytes()[:1000])
    elif harm == "checksum":
        (library.parent / "step.so.sha256").unlink()
    elif harm == "no loop":
        library.write_bytes(Path(_ctypes.__file__).read_bytes())
        seal(library)
    svi = runner()
    svi.run(FLIPS, steps=300)
    assert isinstance(native_of(svi), NativeLoop if harm == "nothing" else CompileJob)
    assert svi.losses[:50] == pytest.approx(runner(compile=False).run(FLIPS, steps=50).losses, rel=1e-5)


@needs_compiler
def test_a_library_that_does_something_else_is_found_out(here, monkeypatch):
    """Opened and tried on a copy of the state before it is used."""
    real = compiler.open_library

    def other(job):
        loop = real(job)
        return lambda inputs, stacked, count: [2 * loss for loss in loop(inputs, stacked, count)]

    monkeypatch.setattr(native, "open_library", other)
    svi = runner()
    svi.run(FLIPS, steps=300)
    assert isinstance(native_of(svi), CompileJob)


def test_without_a_compiler_the_graph_is_replayed_and_the_plan_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(native, "PATIENCE", 0.0)
    svi = runner()
    fit = svi.run(FLIPS, steps=300)
    assert fit.plan.compiled == "captured once, replayed operator by operator (no C++ compiler here)"
    assert svi.losses == pytest.approx(runner(compile=False).run(FLIPS, steps=300).losses, rel=1e-5)


@needs_compiler
def test_a_folder_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CREDO_CACHE", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(native, "PATIENCE", 0.0)
    fit = runner().run(FLIPS, steps=300)
    assert "the folder for compiled steps cannot be written" in fit.plan.compiled


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands for the compiler")
def test_a_compiler_that_fails_is_said(monkeypatch, tmp_path):
    """One that is called g++ and does nothing but fail."""
    monkeypatch.setenv("CREDO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    (tmp_path / "g++").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "g++").chmod(stat.S_IRWXU)
    monkeypatch.setenv("CXX", str(tmp_path / "g++"))
    monkeypatch.setattr(native, "PATIENCE", 0.0)
    svi = compiled(runner())
    assert "the compiler failed" in svi.plan.compiled
    assert not list((tmp_path / "cache").glob("*/step.so")) and not list((tmp_path / "cache").glob("making*"))


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of files")
def test_a_folder_that_others_can_write_is_warned_of_and_the_run_goes_on(monkeypatch, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("CREDO_CACHE", str(tmp_path / "open"))
    monkeypatch.setattr(native, "PATIENCE", 0.0)
    monkeypatch.setattr(compiler, "has_compiler", lambda: True)
    with pytest.warns(UserWarning, match="not safe, so it is not used.*open can be written by others") as caught:
        fit = runner().run(FLIPS, steps=300)
    assert len(caught) == 1 and "not safe" in fit.plan.compiled and not list((tmp_path / "open").iterdir())
    assert list(fit.losses) == pytest.approx(runner(compile=False).run(FLIPS, steps=300).losses, rel=1e-5)


@pytest.mark.parametrize(
    ("seconds", "left", "started"),
    [(0.9, 10**9, False), (1.1, math.inf, True), (1.1, 1000, False), (1.1, 10_000, True), (10.1, 1, True)],
    ids=["first second", "until converged", "few left", "many left", "long so far"],
)
def test_a_compiler_starts_where_the_steps_take_longer_than_compiling(seconds, left, started, monkeypatch):
    """A run of given steps knows what is left of it: after 1,000 steps in `seconds`, the rest takes seconds too."""
    monkeypatch.setattr(native, "PATIENCE", 1.0)
    svi = runner()
    svi.run(FLIPS, steps=100)
    (recorded,) = svi._captures.recorded.values()
    recorded.seconds, recorded.taken = seconds, 1000
    assert native._pays(recorded, left) is started


@pytest.mark.parametrize(("steps", "left"), [(300, [300, 1]), (None, [math.inf, math.inf])], ids=["given", "converged"])
def test_a_run_of_given_steps_says_how_many_are_left(steps, left, monkeypatch):
    seen = []
    monkeypatch.setattr("credo.inference.capture.captures.advance_compilation", lambda replay, left: seen.append(left))
    svi = runner()
    svi.run(FLIPS, steps=steps)
    assert seen[0] <= left[0] and seen[0] > 200 and seen[-1] == left[1]
    svi.step(FLIPS)
    assert seen[-1] == math.inf


@needs_compiler
def test_a_schedule_and_a_callback_reach_compiled_steps(here):
    """From the library of a run without them: the rates are an input, and blocks end where the callback is due."""
    runs = []
    for compile in (True, False):
        svi, seen = runner(compile, lr=lambda step: 0.05 * 0.99**step), []
        fit = svi.run(FLIPS, steps=400, callback=lambda svi, step, loss, seen=seen: seen.append((step, svi.params)))
        runs.append((svi, fit, seen))
    (svi, fit, seen), (_, wanted, expected) = runs
    assert isinstance(native_of(svi), NativeLoop) and len(list(here.glob("*/step.so"))) == 1
    assert fit.losses == pytest.approx(wanted.losses, rel=1e-4)
    assert [step for step, _ in seen] == [step for step, _ in expected] == [100, 200, 300, 400]
    for (_, params), (_, others) in zip(seen, expected, strict=True):
        for name, value in others.items():
            torch.testing.assert_close(params[name], value, rtol=1e-4, atol=1e-4)
