"""The file of a run: the same call goes on exactly. Oracle: the undisturbed run. Kills: `test_killed.py`."""

import functools
import itertools
import signal

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import credo
from credo.inference.storage.container import read
from credo.inference.variational import checkpoint as module
from credo.inference.variational.checkpoint import Checkpoint
from tests.cases.interruptions import Armed, interrupting

Y = torch.tensor([1.3, 0.2, 2.0, 0.7, -0.4, 1.1, 0.9, 0.3])


@pytest.fixture(autouse=True)
def _no_verdict(monkeypatch):
    """The verdict, which comes after the run, takes most of the time of a short fit."""
    monkeypatch.setattr("credo.inference.evaluation.fit.with_verdict", lambda fit, spent, data: fit)


class Killed(BaseException):
    """Ends a process, as far as the run can tell."""


def model(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("N", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def guide(y):
    scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.3)), scale))


def fitted(y=Y, model=model, guide=guide, **options):
    return credo.fit(model, guide, y, **{"compile": False, "progress": False, "plan": "fast"} | options)


def killed_after(monkeypatch, writings, **options):
    """Runs a fit whose process ends right after so many writings."""
    done = []

    def write(self, stopped, before=Checkpoint._write):
        before(self, stopped)
        done.append(self.done)
        if len(done) == writings:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "_write", write)
        with pytest.raises(Killed):
            fitted(**options)
    return done


def same(one, two):
    params = all(torch.equal(two.params[name], value) for name, value in one.params.items())
    return params and one.losses == two.losses and one.stopped == two.stopped and one.falls == two.falls


CASES = {
    "steps": {"steps": 60},
    "natural gradients": {"steps": 60, "optim": "natural"},
    "until converged, with races": {"lr": 0.05, "plan": None},
    "batches": {"steps": 60, "batch_size": 3},
    "a schedule": {"steps": 60, "lr": functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=60)},
    "held-out rows": {"validation": 0.25, "callback_every": 20, "patience": 2, "lr": 0.05},
}


SLOW = ("until converged, with races", "a schedule")


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES])
def test_a_run_goes_on_exactly_and_a_run_that_has_ended_returns_its_fit(case, tmp_path, monkeypatch):
    options, path = CASES[case], tmp_path / "run.credo"
    wanted = fitted(**options)
    kept = options | {"checkpoint": path, "every": 17}
    written = killed_after(monkeypatch, 3, **kept)
    assert written == [0, 17, 34]
    assert same(fitted(**kept), wanted) and same(fitted(**kept), wanted)
    assert [file.name for file in tmp_path.iterdir()] == ["run.credo"]


def test_the_step_after_the_end_is_not_taken(tmp_path, monkeypatch):
    path = tmp_path / "run.credo"
    first = fitted(steps=30, checkpoint=path)
    monkeypatch.setattr("credo.inference.variational.run.loop", None)
    assert same(fitted(steps=30, checkpoint=str(path)), first)


def test_a_run_with_more_steps_goes_on_from_the_end(tmp_path):
    """The learning rate is constant and no race comes, so that it is the run with more steps from the beginning."""
    path, whole = tmp_path / "run.credo", fitted(steps=80)
    first = fitted(steps=50, checkpoint=path)
    later = fitted(steps=80, checkpoint=path)
    assert later.losses == whole.losses and later.losses[:50] == first.losses
    assert all(torch.allclose(later.params[name], value) for name, value in whole.params.items())
    with pytest.raises(ValueError, match=r"steps: got 40, but the run in .* has taken 80 steps"):
        fitted(steps=40, checkpoint=path)


@pytest.mark.slow
def test_a_run_of_so_many_steps_goes_on_until_it_has_converged(tmp_path):
    first = fitted(steps=50, checkpoint=tmp_path / "run.credo")
    later = fitted(checkpoint=tmp_path / "run.credo")
    assert later.converged and later.losses[:50] == first.losses


def test_one_more_step_does_not_throw_the_average_away(tmp_path):
    path = tmp_path / "run.credo"
    first = fitted(steps=200, checkpoint=path)
    later = fitted(steps=201, checkpoint=path)
    assert all(torch.allclose(later.params[name], value, rtol=0.01) for name, value in first.params.items())


def test_ctrl_c_ends_the_step_first_and_the_same_call_goes_on(tmp_path):
    path, whole = tmp_path / "run.credo", fitted(steps=60)

    def pressed(calls, y):
        if calls == 40:
            signal.raise_signal(signal.SIGINT)
        return y

    armed = Armed(model, pressed)
    armed.calls = 0
    first = fitted(model=armed, steps=60, checkpoint=path)
    assert first.stopped.startswith("interrupted after") and 0 < len(first.losses) < 60
    assert first.losses == whole.losses[: len(first.losses)]
    later = fitted(steps=60, checkpoint=path)
    assert later.losses == whole.losses and later.stopped == whole.stopped


OTHERS = {
    "learning rate": ({"lr": 0.1}, "lr= is 0.1, and was 0.02"),
    "seed": ({"seed": 1}, "seed= is 1, and was 0"),
    "batch": ({"batch_size": 3}, "batch_size= is 3, and was None"),
    "optimiser": ({"optim": torch.optim.SGD}, "optim= is SGD, and was None"),
    "particles": ({"particles": 3}, "particles= is 3, and was None"),
    "values": ({"y": Y + 1}, r"argument 'y' \(float32 of shape \(8,\)\) has other values"),
    "rows": ({"y": Y[:4]}, r"argument 'y' is float32 of shape \(4,\), and was float32 of shape \(8,\)"),
    "guide": (
        {"guide": lambda y: guide(y) or pyro.param("more", torch.ones(2))},
        "parameter 'more' is here, and not there",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_run_is_refused_and_told_what_differs(case, tmp_path):
    path = tmp_path / "run.credo"
    fitted(steps=5, checkpoint=path)
    before = path.read_bytes()
    options, words = OTHERS[case]
    with pytest.raises(ValueError, match=f"run.credo is of another run: {words}.*Call as before"):
        fitted(**{"steps": 5, "checkpoint": path} | options)
    assert path.read_bytes() == before


def test_a_run_that_the_held_out_rows_ended_stays_ended_with_more_steps(tmp_path):
    options = {"validation": 0.25, "patience": 1, "callback_every": 5, "lr": 0.2}
    path = tmp_path / "run.credo"
    first = fitted(steps=200, checkpoint=path, **options)
    assert len(first.losses) < 200 and first.stopped.startswith("ended by the held-out rows")
    more, whole = fitted(steps=300, checkpoint=path, **options), fitted(steps=300, **options)
    assert more.losses == whole.losses and more.stopped == whole.stopped
    assert torch.equal(more.params["loc"], whole.params["loc"])


LAMBDAS = {
    "schedule": ({"lr": lambda t: 0.1}, {"lr": lambda t: 0.2}, "lr at steps 0, 1, 10, 100 and 1000="),
    "schedule shorter than 1000 steps": (
        {"lr": lambda t: [0.1, 0.1, 0.1, 0.1, 0.1][t]},
        {"lr": lambda t: [0.1, 0.2, 0.1, 0.1, 0.1][t]},
        "lr at steps 0, 1, 10, 100 and 1000=",
    ),
    "held-out table": (
        {"validation": (pd.Series(Y.numpy()),)},
        {"validation": (pd.Series(Y.numpy() + 1),)},
        "validation=",
    ),
}


@pytest.mark.parametrize("case", LAMBDAS)
def test_functions_without_a_name_and_tables_are_told_apart(case, tmp_path):
    path = tmp_path / "run.credo"
    first, other, words = LAMBDAS[case]
    fitted(steps=5, checkpoint=path, **first)
    fitted(steps=5, checkpoint=path, **first)
    with pytest.raises(ValueError, match=f"run.credo is of another run: {words}"):
        fitted(steps=5, checkpoint=path, **other)


def test_a_seed_of_numpy_is_that_seed_and_no_other(tmp_path):
    path = tmp_path / "run.credo"
    fitted(steps=5, checkpoint=path, seed=np.int64(1))
    assert fitted(steps=5, checkpoint=path, seed=1).losses == fitted(steps=5, seed=np.int64(1)).losses
    with pytest.raises(ValueError, match="seed= is 2, and was 1"):
        fitted(steps=5, checkpoint=path, seed=np.int64(2))


def test_another_prior_is_refused(tmp_path):
    def wider(y):
        z = pyro.sample("z", dist.Normal(0.0, 2.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def anew(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    path = tmp_path / "run.credo"
    fitted(steps=5, checkpoint=path)
    with pytest.raises(ValueError, match=r"another run: site 'z' of the model .* has log density"):
        fitted(model=wider, steps=5, checkpoint=path)
    assert len(fitted(model=anew, steps=6, checkpoint=path).losses) == 6


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    table, fit = tmp_path / "table.csv", tmp_path / "fit.credo"
    table.write_text("a,b\n1,2\n")
    fitted(steps=5).save(fit)
    for path in (table, fit):
        before = path.read_bytes()
        with pytest.raises(ValueError, match=path.name):
            fitted(steps=5, checkpoint=path)
        assert path.read_bytes() == before
    cut = tmp_path / "cut.credo"
    fitted(steps=5, checkpoint=cut)
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cut\.credo: the file is damaged"):
        fitted(steps=5, checkpoint=cut)


def test_a_place_where_no_file_can_be_is_found_before_the_first_step(tmp_path):
    armed = Armed(model, lambda calls, y: y)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fitted(model=armed, steps=5, checkpoint=tmp_path / "none" / "run.credo")
    with pytest.raises(ValueError, match="this is a folder"):
        fitted(steps=5, checkpoint=tmp_path)
    for bad in (3, "", b"", object()):
        with pytest.raises(ValueError, match="checkpoint: got"):
            fitted(steps=5, checkpoint=bad)
    for bad in (0, -1, 2.5, "often"):
        with pytest.raises(ValueError, match="every: got"):
            fitted(steps=5, checkpoint=tmp_path / "run.credo", every=bad)
    with pytest.raises(ValueError, match="every: got 5 without a file"):
        fitted(steps=5, every=5)
    with pytest.raises(ValueError, match="several seeds"):
        fitted(steps=5, checkpoint=tmp_path / "run.credo", seeds=2)


def test_a_disk_that_is_full_meanwhile_costs_a_warning_and_not_the_fit(tmp_path, monkeypatch):
    path, written = tmp_path / "run.credo", []

    def write(*given):
        written.append(given)
        if len(written) > 2:
            raise OSError(28, "No space left on device")
        module.write.before(*given)

    write.before = module.write
    monkeypatch.setattr(module, "write", write)
    with pytest.warns(UserWarning, match="run.credo could not be written .*No space left.* after 20 of 60 steps"):
        fit = fitted(steps=60, checkpoint=path, every=20)
    monkeypatch.undo()
    assert same(fit, fitted(steps=60)) and same(fitted(steps=60, checkpoint=path), fit)


def test_fits_without_steps_write_no_file(tmp_path):
    path = tmp_path / "run.credo"
    assert credo.fit(model, None, Y, checkpoint=path).method == "exact"
    assert not path.exists()


def test_writing_without_a_number_of_steps_takes_about_a_hundredth(tmp_path, monkeypatch):
    """By the clock of the test a run of the guide takes a second, and writing two."""
    now, moments = [0.0], []

    def write(*given):
        now[0] += 2.0
        moments.append(now[0])

    def slow(y):
        now[0] += 1.0
        guide(y)

    monkeypatch.setattr(module, "write", write)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    fitted(guide=slow, steps=500, checkpoint=tmp_path / "run.credo")
    assert len(moments) >= 3 and min(b - a for a, b in itertools.pairwise(moments[:-1])) >= 200


def test_the_first_writing_is_that_of_no_step(tmp_path, monkeypatch):
    path = tmp_path / "run.credo"
    killed_after(monkeypatch, 1, steps=30, checkpoint=path, plan=None, batch_size=3)
    assert read(path, "checkpoint")[0]["run"]
    wanted = fitted(steps=30, plan=None, batch_size=3)
    assert same(fitted(steps=30, checkpoint=path, plan=None, batch_size=3), wanted)


def test_bad_steps_are_counted_over_both_processes(tmp_path, monkeypatch):
    def rough(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("at some draws", torch.where(z > 0.9, torch.tensor(float("nan")), torch.zeros(())))
        with pyro.plate("N", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    options = {"model": rough, "steps": 80, "particles": 1}
    with pytest.warns(UserWarning, match="steps were skipped") as wanted:
        whole = fitted(**options)
    killed_after(monkeypatch, 3, checkpoint=tmp_path / "run.credo", every=20, **options)
    with pytest.warns(UserWarning, match="steps were skipped") as found:
        later = fitted(checkpoint=tmp_path / "run.credo", every=20, **options)
    assert later.losses == whole.losses
    assert [str(w.message) for w in found] == [str(w.message) for w in wanted]


def test_a_callback_that_changes_the_run_is_kept_with_it(tmp_path, monkeypatch):
    def moved(svi, step, loss):
        if step == 20:
            pyro.get_param_store()["loc"] = torch.tensor(3.0)

    options = {"steps": 60, "callback": moved, "callback_every": 20}
    whole = fitted(**options)
    killed_after(monkeypatch, 2, checkpoint=tmp_path / "run.credo", every=20, **options)
    assert same(fitted(checkpoint=tmp_path / "run.credo", every=20, **options), whole)


@pytest.mark.parametrize("call", [20, 21, 22, 23])
def test_a_step_that_is_interrupted_in_the_middle_is_taken_again(tmp_path, call):
    path, whole = tmp_path / "run.credo", fitted(steps=30)
    armed = Armed(model, interrupting(call))
    armed.calls = 0
    first = fitted(model=armed, steps=30, checkpoint=path, every=7)
    assert first.stopped.startswith("interrupted") and len(first.losses) < 30
    assert same(fitted(steps=30, checkpoint=path, every=7), whole)
